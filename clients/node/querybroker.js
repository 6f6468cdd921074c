// A thin layer over the contract in ../../protos: connect, rows of a table, errors in words.
// Copy it and make it yours; the contract is what stays.
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const protos = fileURLToPath(new URL('../../protos', import.meta.url));
const google = dirname(createRequire(import.meta.url).resolve('google-proto-files/package.json'));
const definition = loader.loadSync(
  [
    'querybroker/v1/query_service.proto',
    'querybroker/v1/catalog_service.proto',
    'querybroker/v1/job_service.proto',
    'google/rpc/error_details.proto',
  ],
  // longs: numbers are exact up to 2^53; use String or a bigint library if your integers are larger.
  { includeDirs: [protos, google], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true },
);
const { querybroker } = grpc.loadPackageDefinition(definition);

/** Clients of all services at `address`, over one connection. An API key is sent with every call. */
export function connect(address, { apiKey, tls = false } = {}) {
  const credentials = tls ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
  const options = { 'grpc.max_receive_message_length': 32 << 20 }; // the broker's own limit
  const query = new querybroker.v1.QueryService(address, credentials, options);
  const shared = { ...options, channelOverride: query.getChannel() };
  const metadata = new grpc.Metadata();
  if (apiKey) metadata.set('authorization', `Bearer ${apiKey}`);
  return {
    query,
    catalog: new querybroker.v1.CatalogService(address, credentials, shared),
    jobs: new querybroker.v1.JobService(address, credentials, shared),
    metadata,
    close: () => query.close(),
  };
}

/** One unary call as a promise: `await unary(client, client.query, 'Dashboard', request, { seconds: 5 })`. */
export function unary(client, service, method, request, { seconds = 10 } = {}) {
  const deadline = Date.now() + seconds * 1000;
  return new Promise((resolve, reject) =>
    service[method](request, client.metadata, { deadline }, (error, response) =>
      error ? reject(error) : resolve(response),
    ),
  );
}

/** Rows of typed columns as objects; a missing value is null. */
export function* rows(schema, columns) {
  const read = columns.map(reader);
  const count = columns.length ? length(columns[0]) : 0;
  for (let row = 0; row < count; row++) {
    yield Object.fromEntries(schema.map((column, i) => [column.name, read[i](row)]));
  }
}

const length = (column) => {
  const data = column[column.values];
  return (data.indices ?? data.values ?? data.unix_micros ?? data.unix_days).length;
};

function reader(column) {
  const data = column[column.values];
  const value = {
    string_values: (row) => data.dictionary[data.indices[row]],
    timestamp_values: (row) => new Date(data.unix_micros[row] / 1000),
    date_values: (row) => new Date(data.unix_days[row] * 86_400_000).toISOString().slice(0, 10),
  }[column.values] ?? ((row) => data.values[row]);
  const { validity } = column; // one bit a row, lowest bit first; empty when no row is null
  return (row) => (validity.length && !((validity[row >> 3] >> (row & 7)) & 1) ? null : value(row));
}

/** What a failed call, or the `error` of a panel, says: reason, message, violations, and when to try again. */
export function explain(error) {
  const packed = error.metadata?.get('grpc-status-details-bin')[0];
  const status = packed ? decode('google.rpc.Status', packed) : error;
  const details = Array.isArray(status.details) ? status.details : []; // text in errors of the library's own
  const found = { message: status.message, reason: '', violations: [], retryAfter: null };
  for (const { type_url, value } of details) {
    const name = type_url.split('/').pop();
    const detail = definition[name] ? decode(name, value) : {};
    if (name === 'google.rpc.ErrorInfo') found.reason = detail.reason;
    if (name === 'google.rpc.RequestInfo') found.requestId = detail.request_id;
    if (name === 'google.rpc.BadRequest') {
      found.violations = detail.field_violations.map((v) => `${v.field}: ${v.description}`);
    }
    if (name === 'google.rpc.RetryInfo') {
      found.retryAfter = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9;
    }
  }
  return found;
}

const decode = (name, bytes) => definition[name].deserialize(bytes);
