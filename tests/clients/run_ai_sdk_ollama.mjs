// `ai` with `ai-sdk-ollama`, which stands on the official `ollama` package.

import { createOllama } from "ai-sdk-ollama";

import { steps } from "./ai_sdk.mjs";
import { serve } from "./steps.mjs";

await serve("ai-sdk-ollama", steps((url) => createOllama({ baseURL: url })));
