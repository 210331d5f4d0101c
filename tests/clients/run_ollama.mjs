// The official `ollama` package, which refuses every line that has a key `error`, and an end without `done`.

import { Ollama } from "ollama";

import { SCHEMA, WEATHER, serve, weather } from "./steps.mjs";

const client = (url) => new Ollama({ host: url });

async function answer(url, model, messages, streamed) {
  if (!streamed) return (await client(url).chat({ model, messages, tools: [WEATHER] })).message;
  const whole = { role: "assistant", content: "", tool_calls: [] };
  for await (const { message } of await client(url).chat({ model, messages, tools: [WEATHER], stream: true })) {
    whole.content += message.content;
    whole.tool_calls.push(...(message.tool_calls ?? []));
  }
  return whole;
}

await serve("ollama", {
  async list({ url }) {
    return (await client(url).list()).models.map((model) => model.model);
  },

  async show({ url, model }) {
    const { capabilities, model_info: info } = await client(url).show({ model });
    return { capabilities, context_length: info[`${info["general.architecture"]}.context_length`] };
  },

  async chat({ url, model, prompt }) {
    const reply = await client(url).chat({ model, messages: [{ role: "user", content: prompt }] });
    return { text: reply.message.content, input: reply.prompt_eval_count, output: reply.eval_count };
  },

  async stream({ url, model, prompt }) {
    const pieces = [];
    let last;
    const messages = [{ role: "user", content: prompt }];
    for await (last of await client(url).chat({ model, messages, stream: true })) {
      if (last.message.content) pieces.push(last.message.content);
    }
    return { pieces, input: last.prompt_eval_count, output: last.eval_count };
  },

  async tools({ url, model, prompts, streamed }) {
    const [messages, calls, texts] = [[], [], []];
    for (const content of prompts) {
      messages.push({ role: "user", content });
      let reply;
      while ((reply = await answer(url, model, messages, streamed)).tool_calls?.length) {
        messages.push(reply);
        for (const { function: called } of reply.tool_calls) {
          calls.push([called.name, called.arguments]);
          messages.push({ role: "tool", tool_name: called.name, content: weather(called.arguments.city) });
        }
      }
      messages.push(reply);
      texts.push(reply.content);
    }
    return { calls, texts };
  },

  async image({ url, model, prompt, png }) {
    const messages = [{ role: "user", content: prompt, images: [png] }];
    return (await client(url).chat({ model, messages })).message.content;
  },

  async schema({ url, model, prompt }) {
    const messages = [{ role: "user", content: prompt }];
    return JSON.parse((await client(url).chat({ model, messages, format: SCHEMA })).message.content);
  },

  async embed({ url, model, texts }) {
    return (await client(url).embed({ model, input: texts })).embeddings;
  },
});
