// The official `openai` package on /v1: Chat Completions.

import OpenAI from "openai";

import { SCHEMA, SECRET, WEATHER, serve, weather } from "./steps.mjs";

const client = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: SECRET, maxRetries: 0 });

const told = ({ prompt_tokens, completion_tokens }) => ({ input: prompt_tokens, output: completion_tokens });

async function answer(url, asked, streamed) {
  if (streamed) return client(url).chat.completions.stream(asked).finalMessage();
  return (await client(url).chat.completions.create(asked)).choices[0].message;
}

await serve("openai", {
  async list({ url }) {
    return (await client(url).models.list()).data.map((model) => model.id);
  },

  async chat({ url, model, prompt }) {
    const messages = [{ role: "user", content: prompt }];
    const { choices, usage } = await client(url).chat.completions.create({ model, messages });
    return { text: choices[0].message.content, ...told(usage) };
  },

  async stream({ url, model, prompt }) {
    const pieces = [];
    let last;
    const asked = { model, messages: [{ role: "user", content: prompt }], stream: true };
    for await (last of await client(url).chat.completions.create({ ...asked, stream_options: { include_usage: true } })) {
      for (const { delta } of last.choices) if (delta.content) pieces.push(delta.content);
    }
    return { pieces, ...told(last.usage) };
  },

  async tools({ url, model, prompts, streamed }) {
    const [messages, calls, texts] = [[], [], []];
    for (const content of prompts) {
      messages.push({ role: "user", content });
      let reply;
      while ((reply = await answer(url, { model, messages, tools: [WEATHER] }, streamed)).tool_calls?.length) {
        messages.push(reply);
        for (const call of reply.tool_calls) {
          const given = JSON.parse(call.function.arguments);
          calls.push([call.function.name, given]);
          messages.push({ role: "tool", tool_call_id: call.id, content: weather(given.city) });
        }
      }
      messages.push(reply);
      texts.push(reply.content);
    }
    return { calls, texts };
  },

  async image({ url, model, prompt, png }) {
    const content = [
      { type: "text", text: prompt },
      { type: "image_url", image_url: { url: `data:image/png;base64,${png}` } },
    ];
    const messages = [{ role: "user", content }];
    return (await client(url).chat.completions.create({ model, messages })).choices[0].message.content;
  },

  async schema({ url, model, prompt }) {
    const messages = [{ role: "user", content: prompt }];
    const response_format = { type: "json_schema", json_schema: { name: "number", schema: SCHEMA, strict: true } };
    const reply = await client(url).chat.completions.create({ model, messages, response_format });
    return JSON.parse(reply.choices[0].message.content);
  },

  async embed({ url, model, texts }) {
    return (await client(url).embeddings.create({ model, input: texts })).data.map((one) => one.embedding);
  },
});
