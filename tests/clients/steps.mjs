// How the tests drive a client package: one line of JSON in, one out. See steps.py, which says the same in Python.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

export const SECRET = "not-a-secret";

export const weather = (city) => `${city}: rain, 9 degrees`;

export const PARAMETERS = {
  type: "object",
  required: ["city"],
  properties: { city: { type: "string", description: "Where" } },
};

export const WEATHER = {
  type: "function",
  function: { name: "get_weather", description: "The weather of a city", parameters: PARAMETERS },
};

export const SCHEMA = {
  type: "object",
  properties: { n: { type: "integer" } },
  required: ["n"],
  additionalProperties: false,
};

const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

/** Answer orders until there are no more. */
export async function serve(name, steps) {
  for (const print of ["log", "info", "debug"]) console[print] = console.error; // what a package prints is no answer
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  say({ version: JSON.parse(readFileSync(file, "utf8")).version });
  for await (const line of createInterface({ input: process.stdin })) {
    const { step, ...order } = JSON.parse(line);
    try {
      say({ result: await steps[step](order) });
    } catch (error) {
      console.error(error);
      say({ raised: `${error.name}: ${error.message}` });
    }
  }
}
