// Checks a record of what the server answered and sent against the documents of the contract.
//
//   node check.mjs RECORD [--note]
//
// RECORD is the folder of RECORD_CONTRACT. It fails for what was seen and is not declared, and for what does
// not fit its schema. What is declared and was never seen has to stand in unseen.txt, which may only shrink.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';

const here = fileURLToPath(new URL('.', import.meta.url));
const require = createRequire(new URL('../node/package.json', import.meta.url));
const Ajv = require('ajv/dist/2020').default;
const addFormats = require('ajv-formats').default;

const read = (name) => JSON.parse(readFileSync(join(here, '../../../docs', name), 'utf8'));

/** Refuses members that are not described, wherever the document does not say that plugins may add some. */
function strict(schema) {
  if (Array.isArray(schema)) return schema.map(strict);
  if (schema === null || typeof schema !== 'object') return schema;
  const made = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, key === 'examples' ? value : strict(value)]));
  if (made.allOf) {
    for (const part of made.allOf) delete part.unevaluatedProperties;
    made.unevaluatedProperties = false;
  } else if (made.properties && made.additionalProperties === undefined) {
    made.unevaluatedProperties = false;
  }
  return made;
}

export class Contract {
  constructor(openapi = read('openapi.json'), asyncapi = read('asyncapi.json')) {
    this.openapi = openapi;
    this.asyncapi = asyncapi;
    this.ajv = new Ajv({ strict: false, allErrors: true, validateFormats: true });
    addFormats(this.ajv);
    // `Problem` is extended by each refusal, so only the whole of both may be closed.
    const open = strict(openapi);
    delete open.components.schemas.Problem.unevaluatedProperties;
    this.ajv.addSchema(open, 'openapi');
    const events = strict(asyncapi);
    // What is in the log goes through plugins, which may add members to the payload.
    for (const { messages, ...operation } of Object.values(asyncapi.operations)) {
      if (operation['x-leadwire-logged']) delete events.components.messages[messages[0].$ref.split('/').at(-1)].payload.unevaluatedProperties;
    }
    this.ajv.addSchema(events, 'asyncapi');
    this.validators = new Map();
  }

  validate(pointer, value) {
    let validator = this.validators.get(pointer);
    if (!validator) this.validators.set(pointer, (validator = this.ajv.compile({ $ref: pointer })));
    if (validator(value)) return undefined;
    const errors = validator.errors.filter(({ keyword }) => keyword !== 'anyOf' && keyword !== 'oneOf');
    const shown = (errors.length ? errors : validator.errors).slice(0, 4);
    return shown.map((error) => `${error.instancePath || '/'} ${error.message} ${JSON.stringify(error.params)}`).join('; ');
  }

  /** Names of the codes that a response declares; undefined where plugins may make up their own. */
  codes(response) {
    const [schema] = Object.values(response.content ?? {}).map(({ schema }) => schema);
    const code = schema?.allOf?.find(({ properties }) => properties?.code)?.properties.code;
    return code?.anyOf?.find((one) => one.enum)?.enum ?? [];
  }

  response(method, path, status) {
    const operation = this.openapi.paths[path]?.[method.toLowerCase()];
    const response = operation?.responses[status];
    if (!response?.$ref) return { operation, response, pointer: `openapi#/paths/${escape(path)}/${method.toLowerCase()}/responses/${status}` };
    const name = response.$ref.split('/').at(-1);
    return { operation, response: this.openapi.components.responses[name], pointer: `openapi#/components/responses/${escape(name)}` };
  }

  /** Every (operation, status, code) and every message that is declared. */
  declared() {
    const found = new Set();
    for (const [path, item] of Object.entries(this.openapi.paths)) {
      for (const [method, { operationId, responses }] of Object.entries(item)) {
        for (const status of Object.keys(responses)) {
          const { response } = this.response(method, path, status);
          const codes = this.codes(response);
          if (!codes.length) found.add(`${operationId} ${status}`);
          for (const code of codes) found.add(`${operationId} ${status} ${code}`);
        }
      }
    }
    for (const key of Object.keys(this.asyncapi.components.messages)) {
      const { name, title } = this.asyncapi.components.messages[key];
      found.add(name ? this.isSent(key) ? `event ${name}` : `emit ${name}` : `message ${title}`);
    }
    return found;
  }

  isSent(key) {
    return this.asyncapi.operations[`send.${key}`] !== undefined;
  }

  /** Judges one line of a record: what it is, and what is wrong with it. */
  judge({ what, name, body }) {
    return what === 'answer' ? this.answer(name, body) : this.message(what, name, body);
  }

  answer(name, body) {
    const [given, path, status] = name.split(' ');
    // Paths without a route, and methods that a route lacks, are no operations.
    if (path === 'none' || status === '405' || path.startsWith('/client/')) return {};
    const method = given === 'HEAD' ? 'GET' : given;
    const { operation, response, pointer } = this.response(method, path, status);
    if (!operation) return { fault: `${method} ${path} is not declared` };
    if (!response) return { fault: `${operation.operationId} answers ${status}${body?.code ? ` ${body.code}` : ''}, which is not declared` };
    const codes = this.codes(response);
    const seen = `${operation.operationId} ${status}${codes.length ? ` ${body?.code}` : ''}`;
    if (body === null || given === 'HEAD') return codes.length && given !== 'HEAD' ? {} : { seen: `${operation.operationId} ${status}` };
    const [kind] = Object.keys(response.content ?? {});
    if (!kind) return { fault: `${operation.operationId} ${status} has a body, which is not declared` };
    if (codes.length && !codes.includes(body.code)) {
      if (!response['x-leadwire-plugin-codes']) return { fault: `${operation.operationId} answers ${status} ${body.code}, which is not declared` };
      return {};
    }
    const fault = this.validate(`${pointer}/content/${escape(kind)}/schema`, body);
    return fault ? { seen, fault: `${seen}: ${fault}` } : { seen };
  }

  message(what, name, body) {
    if (what === 'event') {
      // Tests fill the log with events of their own.
      if (body?.filling !== undefined) return {};
      const key = name.replaceAll(':', '.');
      if (!this.isSent(key)) return { fault: `the event ${name} is not declared` };
      const fault = this.validate(`asyncapi#/components/messages/${key}/payload`, body);
      return { seen: `event ${name}`, fault: fault && `event ${name}: ${fault}` };
    }
    const key = name === 'refused' ? name : `${name.replaceAll(':', '.')}.ack`;
    const message = this.asyncapi.components.messages[key];
    if (!message) return { fault: `the acknowledgement of ${name} is not declared` };
    const fault = this.validate(`asyncapi#/components/messages/${key}/payload`, body);
    return { seen: `message ${message.title}`, fault: fault && `${message.title}: ${fault}` };
  }
}

const escape = (text) => encodeURIComponent(text.replaceAll('~', '~0').replaceAll('/', '~1'));

/** Codes that come from what all operations share: seen at one of them, they are seen. */
function shared(declared) {
  const operations = new Set([...declared].map((line) => line.split(' ')[0]));
  const count = new Map();
  for (const line of declared) {
    const [, status, code] = line.split(' ');
    if (code && /^\d+$/.test(status)) count.set(`${status} ${code}`, (count.get(`${status} ${code}`) ?? 0) + 1);
  }
  return new Set([...count].filter(([, times]) => times > 5 && times > operations.size / 8).map(([code]) => code));
}

export function check(contract, lines, listed) {
  const faults = new Map();
  const seen = new Set();
  for (const line of lines) {
    const { seen: what, fault } = contract.judge(line);
    if (what) seen.add(what);
    if (fault) faults.set(fault, (faults.get(fault) ?? 0) + 1);
  }
  const declared = contract.declared();
  const common = shared(declared);
  const codesSeen = new Set([...seen].map((line) => line.split(' ').slice(1).join(' ')));
  const unseen = new Set();
  for (const line of declared) {
    const code = line.split(' ').slice(1).join(' ');
    if (line.startsWith('emit ') || seen.has(line)) continue;
    if (common.has(code)) {
      if (!codesSeen.has(code)) unseen.add(`any ${code}`);
    } else {
      unseen.add(line);
    }
  }
  const untested = [...unseen].filter((line) => !listed.has(line));
  const tested = [...listed].filter((line) => !unseen.has(line));
  return { faults: [...faults.keys()], untested, tested, unseen: [...unseen], seen };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder] = process.argv.slice(2);
  const lines = readdirSync(folder).filter((name) => name.endsWith('.jsonl')).flatMap((name) =>
    readFileSync(join(folder, name), 'utf8').split('\n').filter(Boolean).flatMap((line) => {
      // A process that was killed may have left half a line.
      try { return [JSON.parse(line)]; } catch { return []; }
    }));
  const list = readFileSync(join(here, 'unseen.txt'), 'utf8').split('\n').filter((line) => line && !line.startsWith('#'));
  const { faults, untested, tested, unseen, seen } = check(new Contract(), lines, new Set(list));
  for (const fault of faults) console.error(`fault: ${fault}`);
  for (const line of untested) console.error(`never seen: ${line}: test it, or remove it from the contract`);
  for (const line of tested) console.log(`note: ${line} was seen: remove it from unseen.txt`);
  console.log(`${lines.length} kinds of answers and messages, ${seen.size} of ${seen.size + unseen.length} declared ones seen`);
  process.exit(faults.length || untested.length ? 1 : 0);
}
