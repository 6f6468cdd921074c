// Asks two panels in one call and prints them: `node dashboard.js [ADDRESS]`.
import { connect, explain, rows, unary } from './querybroker.js';

const address = process.argv[2] ?? process.env.QUERYBROKER_ADDRESS ?? '127.0.0.1:50051';
const client = connect(address, { apiKey: process.env.QUERYBROKER_API_KEY });

const year = {
  zone: 'America/New_York',
  dates: { start_date: { year: 2013, month: 1, day: 1 }, end_date: { year: 2014, month: 1, day: 1 } },
};
const panels = [
  {
    panel_id: 'by carrier',
    query: {
      dataset: 'flights',
      measures: ['flights', 'dep_delay'],
      dimensions: ['carrier'],
      time: year,
      order: [{ member: 'flights', direction: 'SORT_DIRECTION_DESC' }],
      limit: 5,
    },
  },
  {
    panel_id: 'by month',
    query: { dataset: 'flights', measures: ['flights'], time: { ...year, grain: 'TIME_GRAIN_MONTH' } },
  },
];

try {
  const reply = await unary(client, client.query, 'Dashboard', { panels }, { seconds: 5 });
  for (const { panel_id, table, status, error } of reply.panels) {
    console.log(`\n${panel_id}`);
    if (error) {
      console.error(explain(error)); // a panel may fail alone
      process.exitCode = 1;
      continue;
    }
    console.table([...rows(table.schema, table.columns.columns)]);
    console.log(`${status.kind}, request ${reply.request_id}`);
  }
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
} finally {
  client.close();
}
