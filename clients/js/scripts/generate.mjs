// Writes `src/generated/` from the documents of the server: `npm run generate`, or with `-- --check` only compares.
//
// api.ts:    paths and schemas of docs/openapi.json, by openapi-typescript
// events.ts: events of docs/asyncapi.json; schemas that both documents have are imported from api.ts

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import openapiTS, { astToString, STRING, tsIntersection, tsUnion } from 'openapi-typescript';
import ts from 'typescript';

const read = (url) => JSON.parse(readFileSync(url, 'utf8'));
const documents = new URL('../../../docs/', import.meta.url);
const generated = new URL('../src/generated/', import.meta.url);

const openapi = read(new URL('openapi.json', documents));
const asyncapi = read(new URL('asyncapi.json', documents));

const files = { 'api.ts': await api(), 'events.ts': await events() };

if (process.argv.includes('--check')) {
  const stale = Object.entries(files).filter(([name, text]) => text !== existing(name));
  for (const [name] of stale) console.error(`src/generated/${name} differs from the documents: npm run generate`);
  process.exitCode = stale.length ? 1 : 0;
} else {
  mkdirSync(generated, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(new URL(name, generated), text);
}

function existing(name) {
  try {
    return readFileSync(new URL(name, generated), 'utf8');
  } catch {
    return undefined;
  }
}

async function api() {
  return banner('openapi.json') + astToString(await typesOf(openapi));
}

async function events() {
  const { messages, schemas } = asyncapi.components;
  for (const [name, schema] of Object.entries(schemas)) {
    if (!isDeepStrictEqual(schema, openapi.components.schemas[name])) {
      throw new Error(`the schema ${name} differs between the two documents`);
    }
  }

  const isSent = ({ action }) => action === 'send';
  const operations = Object.values(asyncapi.operations);
  const sent = operations.filter(isSent);
  const received = operations.filter((operation) => !isSent(operation));
  const message = ({ $ref }) => $ref.split('/').at(-1);
  const payload = (reference) => `Messages['${message(reference)}']`;
  const nameOf = ({ messages: [first] }) => messages[message(first)].name;

  const lines = [
    "import type { components } from './api.js';",
    '',
    '/** Payloads, by the names of the messages in the document. */',
    `export interface Messages ${await payloads(messages, received.map(({ messages: [first] }) => message(first)))}`,
    '',
    '/** Events that the server sends, in the form that `Socket` of socket.io-client takes. */',
    'export interface ServerToClientEvents {',
    ...sent.flatMap((operation) => [
      `  /** ${operation.summary} Audience: ${operation['x-leadwire-audience']}. */`,
      `  '${nameOf(operation)}': (payload: ${payload(operation.messages[0])}) => void;`,
    ]),
    '}',
    '',
    '/** Events that the server accepts. */',
    'export interface ClientToServerEvents {',
    ...received.flatMap((operation) => [
      `  /** ${operation.summary} */`,
      `  '${nameOf(operation)}': (`,
      `    payload: ${payload(operation.messages[0])},`,
      `    ack?: (answer: ${operation.reply.messages.map(payload).join(' | ')}) => void,`,
      '  ) => void;',
    ]),
    '}',
    '',
    '/** Events of the log: they have a `seq` and are replayed. */',
    'export type LoggedEvent =',
    ...sent.filter((operation) => operation['x-leadwire-logged']).map((operation) => `  | '${nameOf(operation)}'`),
  ];
  return `${banner('asyncapi.json')}${lines.join('\n')};\n`;
}

/** Type of the payloads as text. They are passed as schemas of an OpenAPI document with the shared schemas. */
async function payloads(messages, received) {
  // The server ignores unknown members of some commands; in a type they would hide misspelt ones.
  const strict = ({ additionalProperties, ...payload }) => payload;
  const schemas = Object.entries(messages).map(([name, { payload }]) => [
    name,
    received.includes(name) ? strict(payload) : payload,
  ]);
  const document = {
    openapi: '3.1.0',
    info: { title: 'Messages', version: '1' },
    paths: {},
    components: { schemas: { ...openapi.components.schemas, ...Object.fromEntries(schemas) } },
  };
  const nodes = await typesOf(document);
  const member = (members, name) => members.find((each) => (each.name?.text ?? each.name?.escapedText) === name);
  const components = member(nodes, 'components');
  const all = member(components.members, 'schemas').type.members;
  const own = all.filter(({ name }) => Object.hasOwn(messages, name.text));
  return astToString(ts.factory.createTypeLiteralNode(own)).trim();
}

function typesOf(document) {
  // A member of a request that has a default is still optional.
  return openapiTS(structuredClone(document), { defaultNonNullable: false, postTransform, silent: true });
}

/** Open enum, `'NEW' | string`: as `'NEW' | (string & {})`, editors still offer the values. */
function postTransform(type) {
  if (!ts.isUnionTypeNode(type)) return undefined;
  const plain = (each) => (ts.isParenthesizedTypeNode(each) ? plain(each.type) : each);
  const members = type.types.map(plain).flatMap((each) => (ts.isUnionTypeNode(each) ? [...each.types] : [each]));
  const isString = ({ kind }) => kind === ts.SyntaxKind.StringKeyword;
  // openapi-typescript makes string literals this way.
  const isText = (each) => ts.isIdentifier(each) && each.text.startsWith('"');
  if (!members.some(isString) || !members.some(isText)) return undefined;
  const anyOther = ts.factory.createParenthesizedType(tsIntersection([STRING, ts.factory.createTypeLiteralNode([])]));
  return tsUnion([...members.filter((each) => !isString(each)), anyOther]);
}

function banner(document) {
  return `// Generated from docs/${document} by scripts/generate.mjs: run \`npm run generate\` instead of editing.\n\n`;
}
