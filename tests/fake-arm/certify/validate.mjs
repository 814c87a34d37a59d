// Holds a recording of the fake against swagger, by Microsoft's own validator.
//
// usage: node validate.mjs OAV FOLDER RECORDING
//   OAV        the folder of the npm package oav
//   FOLDER     has specification/…/resource-manager/…, as swagger.py writes it and as Azure/azure-rest-api-specs has it
//   RECORDING  the fake's: one {request, response} a line
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [oavFolder, folder, recording] = process.argv.slice(2);
if (!recording) throw new Error("usage: node validate.mjs OAV FOLDER RECORDING");
const oav = createRequire(import.meta.url)(resolve(oavFolder));

// What no swagger of a service describes: operations that go on, and resource groups.
const aside = /\/locations\/[^/]+\/(operations|operationResults|DiskOperations)\/|\/resourceGroups\/[^/]+$/i;

const validator = new oav.LiveValidator({
  git: { shouldClone: false },
  directory: resolve(folder),
  swaggerPathsPattern: ["specification/**/*.json"],
  loadValidatorInInitialize: true,
});

function pair({ request, response }) {
  const url = new URL(request.url);
  return {
    liveRequest: {
      method: request.method,
      url: url.pathname + url.search,
      query: Object.fromEntries(url.searchParams),
      headers: { ...request.headers, "content-type": request.headers["content-type"] ?? "application/json" },
      body: request.body ?? undefined,
    },
    liveResponse: {
      statusCode: String(response.status),
      headers: { "content-type": "application/json", ...lower(response.headers) },
      body: response.body ?? undefined,
    },
  };
}

const lower = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));

async function flaws(exchange) {
  const { requestValidationResult: asked, responseValidationResult: said, runtimeException } =
    await validator.validateLiveRequestResponse(pair(exchange));
  const found = [];
  for (const [side, result] of [["request", asked], ["response", said]]) {
    if (result.runtimeException) found.push(`${side}: ${result.runtimeException.code} ${result.runtimeException.message}`);
    // Requests of tests are wrong on purpose where they are refused.
    if (side === "request" && exchange.response.status >= 400) continue;
    for (const { code, pathsInPayload, message } of result.errors) {
      found.push(`${side}: ${code} ${pathsInPayload.join(",")} ${message}`);
    }
  }
  if (runtimeException) found.push(`${runtimeException.code} ${runtimeException.message}`);
  return found;
}

await validator.initialize();
const all = readFileSync(recording, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const held = all.filter(({ request, response }) => response && !aside.test(new URL(request.url).pathname));
let failed = 0;
for (const exchange of held) {
  const found = await flaws(exchange);
  if (found.length === 0) continue;
  failed += 1;
  console.log(`${exchange.request.method} ${exchange.request.url} -> ${exchange.response.status}`);
  for (const flaw of found) console.log(`    ${flaw}`);
}

// That it finds what is wrong: a disk whose answer has a size that is a text, and a member that nobody knows.
const sample = held.find(({ request, response }) => request.method === "GET" && response.status === 200 && /\/disks\/[^/?]+\?/.test(request.url));
if (!sample) throw new Error("the recording has no GET of a disk");
const broken = structuredClone(sample);
broken.response.body.properties.diskSizeGB = "one";
broken.response.body.properties.sizeGB = 1;
const found = (await flaws(broken)).join("\n");
if (!found.includes("INVALID_TYPE") || !found.includes("OBJECT_ADDITIONAL_PROPERTIES")) {
  throw new Error(`a broken answer is not found: ${found}`);
}
console.log(`${all.length - held.length} aside, of operations that go on and resource groups`);
console.log(`${held.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 && held.length > 0 ? 0 : 1);
