// `ai` with `ollama-ai-provider-v2`, as Cline has it: its base ends in /api.

import { createOllama } from "ollama-ai-provider-v2";

import { steps } from "./ai_sdk.mjs";
import { serve } from "./steps.mjs";

await serve("ollama-ai-provider-v2", steps((url) => createOllama({ baseURL: `${url}/api` })));
