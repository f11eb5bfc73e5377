// Makes one call with one client, as JSON on stdin says, and prints what came of it.
//
// A job: call (one of `calls`), url (of the server, without /v1), name (its X-Request-ID), model,
// prompt, same (members that make the answer the same each time).
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateText, streamText } from "ai";
import OpenAI from "openai";
import { text } from "node:stream/consumers";

const TOKENS = 8;
const job = JSON.parse(await text(process.stdin));
const headers = { "X-Request-ID": job.name };
const openai = new OpenAI({ baseURL: `${job.url}/v1`, apiKey: "none", defaultHeaders: headers });
const aiOpenAI = createOpenAI({ baseURL: `${job.url}/v1`, apiKey: "none", headers, fetch: same });
const aiAnthropic = createAnthropic({ baseURL: `${job.url}/v1`, apiKey: "none", headers, fetch: same });

// The AI SDK sends only members that it knows.
function same(url, options) {
  return fetch(url, { ...options, body: JSON.stringify({ ...JSON.parse(options.body), ...job.same }) });
}

async function streamed(result) {
  let said = "";
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") said += part.text;
    if (part.type === "error") throw part.error;
  }
  return said;
}

const aiRequest = { prompt: job.prompt, maxOutputTokens: TOKENS, maxRetries: 2, onError() {} };

const calls = {
  async completions() {
    const body = { model: job.model, prompt: job.prompt, max_tokens: TOKENS, ...job.same };
    return (await openai.completions.create(body)).choices[0].text;
  },
  async completionsStreamed() {
    const body = { model: job.model, prompt: job.prompt, max_tokens: TOKENS, ...job.same };
    let said = "";
    for await (const chunk of await openai.completions.create({ ...body, stream: true })) {
      said += chunk.choices[0]?.text ?? "";
    }
    return said;
  },
  async embeddings() {
    const made = await openai.embeddings.create({ model: job.model, input: job.prompt });
    return made.data[0].embedding;
  },
  async responses() {
    const body = { model: job.model, input: job.prompt, max_output_tokens: TOKENS, ...job.same };
    return (await openai.responses.create(body)).output_text;
  },
  async responsesStreamed() {
    const body = { model: job.model, input: job.prompt, max_output_tokens: TOKENS, ...job.same };
    let said = "";
    for await (const event of await openai.responses.create({ ...body, stream: true })) {
      if (event.type === "response.output_text.delta") said += event.delta;
    }
    return said;
  },
  async aiResponses() {
    return (await generateText({ model: aiOpenAI(job.model), ...aiRequest })).text;
  },
  async aiResponsesStreamed() {
    return streamed(streamText({ model: aiOpenAI(job.model), ...aiRequest }));
  },
  async aiChatStreamed() {
    return streamed(streamText({ model: aiOpenAI.chat(job.model), ...aiRequest }));
  },
  async aiEmbeddings() {
    const model = aiOpenAI.textEmbeddingModel(job.model);
    return (await embed({ model, value: job.prompt })).embedding;
  },
  async aiMessages() {
    return (await generateText({ model: aiAnthropic(job.model), ...aiRequest })).text;
  },
  async aiMessagesStreamed() {
    return streamed(streamText({ model: aiAnthropic(job.model), ...aiRequest }));
  },
};

try {
  console.log(JSON.stringify({ said: await calls[job.call]() }));
} catch (error) {
  console.log(JSON.stringify({ error: `${error.name}: ${error.message}` }));
}
