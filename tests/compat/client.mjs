// One unmodified SDK against a server: `node client.mjs <kind> <url> <token>`. Says `{"event": ..}` on standard output,
// a line each; reads questions from standard input: `{"id": 1, "flags": [["half", "bool"]], "users": 1000}` asks for the
// decision and the variant of each user, flag by flag.

import { createInterface } from 'node:readline';

const [kind, url, token] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const changed = () => say({ event: 'changed', at: Date.now() });

/** What user number `n` is like; the test in Rust builds the same. */
const user = (n) => ({
  userId: `user-${n}`,
  platform: ['ios', 'android', 'web'][n % 3],
  groups: n % 4 === 0 ? 'beta' : 'everyone',
  appVersion: `3.${n % 5}.0`,
  plan: n % 2 === 0 ? 'pro' : 'free',
});

const unleashContext = ({ userId, ...properties }) => ({ userId, properties });
const openFeatureContext = ({ userId, ...fields }) => ({ targetingKey: userId, ...fields });

async function server(mode, refreshInterval) {
  const { initialize } = await import('unleash-client');
  const client = initialize({
    appName: `compat-${kind}`,
    url: `${url}/api`,
    refreshInterval,
    metricsInterval: 500,
    metricsJitter: 0,
    customHeaders: { Authorization: token },
    storageProvider: { set: async () => {}, get: async () => undefined },
    experimentalMode: mode,
  });
  client.on('synchronized', () => say({ event: 'ready' }));
  client.on('changed', changed);
  client.on('warn', (message) => say({ event: 'warn', message: String(message) }));
  client.on('error', (error) => say({ event: 'error', message: String(error?.message ?? error) }));
  client.on('mode', (change) => say({ event: 'mode', change }));
  return async (n) => (flag) => {
    const context = unleashContext(user(n));
    const variant = client.getVariant(flag, context);
    return [client.isEnabled(flag, context), variant.enabled ? variant.name : null];
  };
}

async function proxy(polls) {
  const { UnleashClient, InMemoryStorageProvider } = await import('unleash-proxy-client');
  const client = new UnleashClient({
    url: `${url}/api/frontend`,
    clientKey: token,
    appName: `compat-${kind}`,
    refreshInterval: 1,
    // Its polls and its changes of context race with one another.
    disableRefresh: !polls,
    metricsInterval: 1,
    metricsIntervalInitial: 1,
    storageProvider: new InMemoryStorageProvider(),
    fetch,
  });
  client.on('update', changed);
  client.on('error', (error) => say({ event: 'error', message: String(error?.message ?? error) }));
  await client.start();
  say({ event: 'ready' });
  return async (n) => {
    await client.updateContext(unleashContext(user(n)));
    return (flag) => {
      const variant = client.getVariant(flag);
      return [client.isEnabled(flag), variant.enabled ? variant.name : null];
    };
  };
}

async function ofrepServer() {
  // Its core is an older one than the browsers'.
  const { createRequire } = await import('node:module');
  const require = createRequire(new URL('./ofrep-server/package.json', import.meta.url));
  const { OpenFeature } = require('@openfeature/server-sdk');
  const { OFREPProvider } = require('@openfeature/ofrep-provider');
  const headers = [['Authorization', `Bearer ${token}`]];
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: url, headers }));
  const client = OpenFeature.getClient();
  say({ event: 'ready' });
  return async (n) => async (flag, type) => {
    const ask = type === 'string' ? client.getStringDetails.bind(client) : client.getBooleanDetails.bind(client);
    const details = await ask(flag, type === 'string' ? 'fallback' : false, openFeatureContext(user(n)));
    return [details.flagMetadata.enabled ?? null, details.variant ?? null, details.value, details.reason];
  };
}

async function ofrepWeb() {
  const { EventSource } = await import('eventsource');
  globalThis.EventSource = EventSource;
  const { OpenFeature, ProviderEvents } = await import('@openfeature/web-sdk');
  const { OFREPWebProvider } = await import('@openfeature/ofrep-web-provider');
  await OpenFeature.setContext(openFeatureContext(user(0)));
  const provider = new OFREPWebProvider({
    baseUrl: url,
    headers: [['Authorization', `Bearer ${token}`]],
    cacheMode: 'disabled',
  });
  OpenFeature.addHandler(ProviderEvents.ConfigurationChanged, changed);
  OpenFeature.addHandler(ProviderEvents.Stale, () => say({ event: 'stale' }));
  OpenFeature.addHandler(ProviderEvents.Error, (details) => say({ event: 'error', message: details?.message }));
  await OpenFeature.setProviderAndWait(provider);
  const client = OpenFeature.getClient();
  say({ event: 'ready' });
  return async (n) => {
    await OpenFeature.setContext(openFeatureContext(user(n)));
    return (flag, type) => {
      const ask = type === 'string' ? client.getStringDetails.bind(client) : client.getBooleanDetails.bind(client);
      const details = ask(flag, type === 'string' ? 'fallback' : false);
      return [details.flagMetadata.enabled ?? null, details.variant ?? null, details.value, details.reason];
    };
  };
}

const open = {
  polling: () => server({ type: 'polling', format: 'full' }, 300),
  delta: () => server({ type: 'polling', format: 'delta' }, 300),
  streaming: () => server({ type: 'streaming' }, 300),
  proxy: () => proxy(false),
  'proxy-polling': () => proxy(true),
  'ofrep-server': ofrepServer,
  'ofrep-web': ofrepWeb,
}[kind];

const decide = await open();
for await (const line of createInterface({ input: process.stdin })) {
  const { id, flags, users } = JSON.parse(line);
  const decisions = flags.map(() => []);
  for (let n = 0; n < users; n += 1) {
    const ask = await decide(n);
    for (const [place, [flag, type]] of flags.entries()) {
      decisions[place].push(await ask(flag, type));
    }
  }
  say({ id, decisions });
}
process.exit(0);
