// The steps of Vercel's AI SDK, for any provider of it: the SDK itself runs the tools.

import { Output, embedMany, generateText, isStepCount, jsonSchema, streamText, tool } from "ai";

import { PARAMETERS, SCHEMA, weather } from "./steps.mjs";

const get_weather = tool({
  description: "The weather of a city",
  inputSchema: jsonSchema(PARAMETERS),
  execute: async ({ city }) => weather(city),
});

const told = ({ inputTokens, outputTokens }) => ({ input: inputTokens, output: outputTokens });

/** `provider` makes the AI SDK's provider from the bridge's address. */
export const steps = (provider) => ({
  async chat({ url, model, prompt }) {
    const { text, usage } = await generateText({ model: provider(url)(model), prompt, maxRetries: 0 });
    return { text, ...told(usage) };
  },

  async stream({ url, model, prompt }) {
    let failure;
    const onError = ({ error }) => (failure = error);
    const reply = streamText({ model: provider(url)(model), prompt, maxRetries: 0, onError });
    const pieces = [];
    for await (const piece of reply.textStream) pieces.push(piece);
    if (failure) throw failure;
    return { pieces, reason: await reply.finishReason, ...told(await reply.usage) };
  },

  async tools({ url, model, prompts, streamed }) {
    const [messages, calls, texts] = [[], [], []];
    for (const content of prompts) {
      messages.push({ role: "user", content });
      const asked = { model: provider(url)(model), messages, tools: { get_weather }, stopWhen: isStepCount(5) };
      const reply = streamed ? streamText({ ...asked, maxRetries: 0 }) : await generateText({ ...asked, maxRetries: 0 });
      if (streamed) await reply.consumeStream();
      for (const step of await reply.steps) calls.push(...step.toolCalls.map((call) => [call.toolName, call.input]));
      messages.push(...(await reply.responseMessages));
      texts.push(await reply.text);
    }
    return { calls, texts };
  },

  async image({ url, model, prompt, png }) {
    const content = [
      { type: "text", text: prompt },
      { type: "file", data: png, mediaType: "image/png" }, // base64: ollama-ai-provider-v2 4.0.1 fails on bytes
    ];
    const messages = [{ role: "user", content }];
    return (await generateText({ model: provider(url)(model), messages, maxRetries: 0 })).text;
  },

  async schema({ url, model, prompt }) {
    const output = Output.object({ schema: jsonSchema(SCHEMA) });
    return (await generateText({ model: provider(url)(model), prompt, output, maxRetries: 0 })).output;
  },

  async embed({ url, model, texts }) {
    const asked = { model: provider(url).embeddingModel(model), values: texts, maxRetries: 0 };
    return (await embedMany(asked)).embeddings;
  },
});
