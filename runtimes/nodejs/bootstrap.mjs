// Starts AWS's own runtime interface client, with a module of ours in the place of its compiled addon.

import { createRequire } from "node:module";

// The client's bundle asks for the addon by this path. There is an empty file, so that the path resolves; loaded is
// what the cache of modules has under it.
const ADDON = "/var/runtime/ric/rapid-client.node";

const require = createRequire(import.meta.url);
const OURS = "./runtime-api-client.cjs";
require(OURS);
require.cache[ADDON] = require.cache[require.resolve(OURS)];

const client = await import("./ric/index.mjs");
// Releases from 4 on start by themselves when they are imported.
await client.run?.(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
