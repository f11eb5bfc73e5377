// Does the jobs that come as JSON on stdin, all at once, and prints what came of each.
//
// A job: name (also its X-Request-ID), client (openai or ai), url, key, messages, stream, mock
// (what the mock backend is told), tools, temperature, top_p, retries, timeout (milliseconds).
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";
import { text } from "node:stream/consumers";

const clients = { openai: withOpenAI, ai: withAI };

async function withOpenAI(job, came) {
  const client = new OpenAI({
    baseURL: job.url,
    apiKey: job.key,
    maxRetries: job.retries,
    timeout: job.timeout,
    defaultHeaders: { "X-Request-ID": job.name },
  });
  const { messages, mock, temperature, top_p, tools } = job;
  const body = { model: "m", messages, mock, temperature, top_p };
  body.tools = tools?.map((name) => ({ type: "function", function: { name } }));
  if (!job.stream) {
    const completion = await client.chat.completions.create(body);
    const [choice] = completion.choices;
    came.id = completion.id;
    came.content = choice.message.content ?? "";
    came.finish = choice.finish_reason;
    came.tokens = completion.usage.total_tokens;
    came.calls = choice.message.tool_calls?.map(({ function: f }) => [f.name, f.arguments]);
    return;
  }
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...body, ...options })) {
    came.tokens = chunk.usage?.total_tokens ?? came.tokens;
    for (const { delta, finish_reason } of chunk.choices) {
      came.content += delta.content ?? "";
      came.finish = finish_reason ?? came.finish;
      for (const { index, function: f } of delta.tool_calls ?? []) {
        came.calls ??= [];
        came.calls[index] ??= [f.name, ""];
        came.calls[index][1] += f.arguments;
      }
    }
  }
}

async function withAI(job, came) {
  const provider = createOpenAICompatible({
    name: "infergate",
    baseURL: job.url,
    apiKey: job.key,
    headers: { "X-Request-ID": job.name },
    includeUsage: true,
  });
  const inputSchema = jsonSchema({ type: "object" });
  const asked = {
    model: provider("m"),
    messages: job.messages,
    temperature: job.temperature,
    topP: job.top_p,
    tools: job.tools && Object.fromEntries(job.tools.map((name) => [name, tool({ inputSchema })])),
    maxRetries: job.retries,
    timeout: job.timeout,
    providerOptions: { infergate: { mock: job.mock } },
  };
  const called = ({ toolName, input }) => [toolName, JSON.stringify(input)];
  if (!job.stream) {
    const result = await generateText(asked);
    came.id = result.response.id;
    came.content = result.text;
    came.finish = result.finishReason;
    came.tokens = result.usage.totalTokens;
    came.calls = result.toolCalls.map(called);
    return;
  }
  for await (const part of streamText({ ...asked, onError() {} }).fullStream) {
    if (part.type === "text-delta") came.content += part.text;
    if (part.type === "tool-call") (came.calls ??= []).push(called(part));
    if (part.type === "error") throw part.error;
    if (part.type === "abort") throw new DOMException(part.reason, "AbortError");
    if (part.type === "finish") {
      came.finish = part.finishReason;
      came.tokens = part.totalUsage.totalTokens;
    }
  }
}

function facts(error) {
  if (typeof error === "string") return { message: error };
  const { message, param } = error;
  const code = error.code ?? error.data?.error.code; // the AI SDK's keeps the body's own object
  const name = error.constructor === Error ? error.name : error.constructor.name;
  return { name, message, code, param, status: error.status ?? error.statusCode };
}

async function done(job) {
  const came = { content: "" };
  try {
    await clients[job.client](job, came);
  } catch (error) {
    came.error = facts(error);
  }
  return came;
}

const jobs = JSON.parse(await text(process.stdin));
console.log(JSON.stringify(await Promise.all(jobs.map(done))));
