// Greets whoever the event names. ES modules, async handlers and top-level await work as on Lambda.
import { greet } from "./greet.mjs";

const startedAt = new Date(); // once per execution environment

export const handler = async (event, context) => {
  console.log(`greeting ${event.name ?? "world"}`);
  return {
    message: greet(event.name),
    function: context.functionName,
    node: process.version,
    remainingMs: context.getRemainingTimeInMillis(),
    startedAt,
  };
};
