// `@langchain/ollama`: always streams underneath; calls keep their ids, results have none.

import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOllama, OllamaEmbeddings } from "@langchain/ollama";

import { PARAMETERS, SCHEMA, serve, weather } from "./steps.mjs";

const getWeather = tool(({ city }) => weather(city), {
  name: "get_weather",
  description: "The weather of a city",
  schema: PARAMETERS,
});

const chatModel = (url, model) => new ChatOllama({ model, baseUrl: url, maxRetries: 0 });

const told = ({ usage_metadata: usage }) => ({ input: usage.input_tokens, output: usage.output_tokens });

async function answer(asked, messages, streamed) {
  if (!streamed) return asked.invoke(messages);
  let whole;
  for await (const part of await asked.stream(messages)) whole = whole ? whole.concat(part) : part;
  return whole;
}

await serve("@langchain/ollama", {
  async chat({ url, model, prompt }) {
    const reply = await chatModel(url, model).invoke(prompt);
    return { text: reply.content, ...told(reply) };
  },

  async stream({ url, model, prompt }) {
    const pieces = [];
    let whole;
    for await (const part of await chatModel(url, model).stream(prompt)) {
      whole = whole ? whole.concat(part) : part;
      if (part.content) pieces.push(part.content);
    }
    return { pieces, ...told(whole) };
  },

  async tools({ url, model, prompts, streamed }) {
    const asked = chatModel(url, model).bindTools([getWeather]);
    const [messages, calls, texts] = [[], [], []];
    for (const prompt of prompts) {
      messages.push(new HumanMessage(prompt));
      let reply;
      while ((reply = await answer(asked, messages, streamed)).tool_calls?.length) {
        messages.push(reply);
        for (const call of reply.tool_calls) {
          calls.push([call.name, call.args]);
          messages.push(await getWeather.invoke(call));
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
      { type: "image_url", image_url: `data:image/png;base64,${png}` },
    ];
    return (await chatModel(url, model).invoke([new HumanMessage({ content })])).content;
  },

  async schema({ url, model, prompt }) {
    return chatModel(url, model).withStructuredOutput(SCHEMA, { method: "jsonSchema" }).invoke(prompt);
  },

  async embed({ url, model, texts }) {
    return new OllamaEmbeddings({ model, baseUrl: url, maxRetries: 0 }).embedDocuments(texts);
  },
});
