// Another system's own engine, unmodified, deciding in this process on a document of its own:
//   node engine.mjs flagd|growthbook FILE
// A line of standard input is a user: `{"nowMs": 0, "attributes": {...}}`. The line that answers it holds the value of
// every flag; one that is off, or that leaves the value to the app's code, is missing.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [kind, file] = process.argv.slice(2);
const text = readFileSync(file, 'utf8');

async function flagd() {
  const { FlagdCore } = await import('@openfeature/flagd-core');
  const silent = { error() {}, warn() {}, info() {}, debug() {} };
  const core = new FlagdCore(undefined, silent);
  core.setConfigurations(text);
  return (attributes) => core.resolveAll(attributes).map(({ flagKey, value }) => [flagKey, value]);
}

async function growthbook() {
  const { GrowthBookClient } = await import('@growthbook/growthbook');
  const payload = JSON.parse(text);
  const client = new GrowthBookClient().initSync({ payload });
  const keys = Object.keys(payload.features);
  return (attributes) => keys.map((key) => [key, client.evalFeature(key, { attributes }).value]);
}

const decide = await { flagd, growthbook }[kind]();
for await (const line of createInterface({ input: process.stdin })) {
  const { nowMs, attributes } = JSON.parse(line);
  Date.now = () => nowMs;
  process.stdout.write(`${JSON.stringify(Object.fromEntries(decide(attributes)))}\n`);
}
