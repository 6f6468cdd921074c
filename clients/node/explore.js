// Streams an answer of any size and counts its rows: `node explore.js [ADDRESS]`.
import { connect, explain, rows } from './querybroker.js';

const address = process.argv[2] ?? process.env.QUERYBROKER_ADDRESS ?? '127.0.0.1:50051';
const client = connect(address, { apiKey: process.env.QUERYBROKER_API_KEY });

const query = {
  dataset: 'flights',
  measures: ['flights', 'arr_delay'],
  dimensions: ['carrier', 'dest'],
  filter: {
    condition: { member: 'origin', operator: 'FILTER_OPERATOR_EQ', values: [{ string_value: 'JFK' }] },
  },
};

let schema = [];
let count = 0;
let status;
try {
  const call = client.query.Explore({ query }, client.metadata, { deadline: Date.now() + 30_000 });
  // The loop reads as fast as it works: gRPC holds the broker, and the broker the database, in the meantime.
  for await (const { event, header, batch, status: last } of call) {
    if (event === 'header') schema = header.schema;
    if (event === 'status') status = last;
    if (event !== 'batch') continue;
    for (const row of rows(schema, batch.columns.columns)) {
      if (count++ < 5) console.log(row);
    }
  }
  if (!status) throw new Error('the stream ended without a status: the answer is incomplete');
  console.log(`${count} rows, ${status.kind}`);
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
} finally {
  client.close();
}
