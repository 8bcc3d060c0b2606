// A stand-in for the fleet server while developing pages: `npm run fake-api`, then `MUSTER_SERVER=… npm run dev`.
// Serves dist/ too, with the headers that the real server sends, so that the built page can be looked at.
import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import * as rules from "./fixture-rules.mjs";
import { fixture, nowIso } from "./fixture.mjs";

const dist = fileURLToPath(new URL("../dist", import.meta.url));
const types = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8" };
const policy = "default-src 'self'; style-src 'self' 'unsafe-inline'";
const nobody = { needs_you: [], devices: { total: 0, online: 0, offline: 0, running: 0, failing: 0 }, rollouts: [], models: [], incidents_open: 0 };

export function startFake({ port = 0, devices = 6, empty = false } = {}) {
  const streams = new Set();
  let frozen = empty ? [] : fixture.freezes();
  let eventId = 100;
  let cohorts = rules.cohorts;
  let sites = rules.siteRules;
  const made = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://fake");
    if (url.pathname === "/api/v1/events") return listen(request, response);
    if (url.pathname === "/healthz") return response.writeHead(200, { "content-type": "application/json" }).end('{"status":"ok","version":"0.1.0"}');
    if (url.pathname.startsWith("/api/v1/")) return answer(request, response, url);
    return file(request, response, url.pathname);
  });

  function listen(request, response) {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(": here\n\n");
    streams.add(response);
    request.on("close", () => streams.delete(response));
  }

  function emit(kind, subject) {
    eventId += 1;
    for (const stream of streams) stream.write(`id: ${eventId}\nevent: ${kind}\ndata: ${JSON.stringify({ subject })}\n\n`);
  }

  function answer(request, response, url) {
    const path = url.pathname.slice("/api/v1".length);
    const q = url.searchParams;
    const send = (body, status = 200) => {
      response.writeHead(status, { "content-type": status < 400 ? "application/json" : "application/problem+json" });
      response.end(JSON.stringify(body));
    };
    const missing = () => send({ type: "about:blank", title: "Not found", status: 404, code: "not_found", detail: `There is no ${path.split("/")[1]} of this name.` }, 404);
    const one = (found) => (found === undefined ? missing() : send(found));
    const page = (items) => send({ items: empty ? [] : items });

    if (request.method === "POST" && path.startsWith("/freezes")) {
      let body = "";
      request.on("data", (piece) => (body += piece));
      request.on("end", () => {
        const { site, reason } = JSON.parse(body);
        frozen = frozen.filter((freeze) => freeze.site !== site);
        if (path === "/freezes") frozen.push({ site, since: nowIso(), by: "developer", reason });
        emit(path === "/freezes" ? "fleet.frozen" : "fleet.thawed", site ?? "the fleet");
        send({ items: frozen });
      });
      return undefined;
    }
    if (request.method === "POST" && (path === "/rollouts" || path === "/tags")) return bodyOf(request, (body) => (path === "/tags" ? tagged(body, q, send) : planned(body, q, send)));
    if (request.method === "PUT") return bodyOf(request, (body) => changed(path, body, send, missing));
    if (request.method === "POST") return act(path, send, missing);
    if (path === "/me") return send({ mode: "open", name: "operator", display: "operator", administrator: true, by: "address", roles: [] });
    if (path === "/overview") return send(empty ? { ...nobody, world_now: nowIso(), now: nowIso() } : fixture.overview(devices));
    if (path === "/devices") return send(list(q));
    if (path === "/devices/count") return send({ devices });
    if (path === "/log") return send(cut(empty ? [] : fixture.log().filter((entry) => q.get("subject") === null || entry.subject === q.get("subject")), q));
    if (path === "/policies") return page(rules.policies);
    if (path === "/projects") return page([{ name: "default", sites: [], models: [], datasets: [], made: nowIso(), made_by: "fleet" }]);
    if (path === "/trust") return send(empty ? { files: [] } : rules.trust);
    if (path === "/telemetry") return send(rules.kept);
    if (path === "/doctor") return send(rules.checkup());
    if (path === "/mail") return send(empty ? { relay: null, from: null, quiet_until: null, items: [] } : rules.mail());
    if (path === "/webhooks") return send({ items: empty ? [] : rules.webhooks });
    if (path.startsWith("/webhooks/")) return page(rules.undelivered());
    if (path === "/leases") return page([{ id: "lea-1", device: fixture.device(0).id, site: null, owner: "biomed", reason: "sensor is calibrated", taken: nowIso(), expires: new Date(Date.now() + 7_200_000).toISOString() }]);
    if (path === "/enrolments") return page(rules.enrolments);
    if (path === "/cohorts") return page(cohorts);
    if (path === "/bundles") return page(fixture.bundles(q.get("model")));
    if (path === "/incidents") return page(fixture.incidents());
    if (path === "/freezes") return send({ items: frozen });
    if (path === "/sites") return page(sites);
    if (path === "/rollouts") return page(fixture.rollouts().filter(({ model, phase }) => [null, model].includes(q.get("model")) && [null, phase.is].includes(q.get("phase"))));
    if (path === "/runs") return page(fixture.runs());
    if (path === "/drift") return send(empty ? { streams: [], windows: [], devices_left_out: 0 } : fixture.drift(q.get("model"), q.get("device")));
    if (path === "/drift/performance") return send(empty ? { horizon_s: 86_400, bundles: [] } : fixture.performance(q.get("model")));
    if (path === "/drift/histogram") return send(fixture.histogram(q.get("stream")));
    const [, kind, id, more] = path.split("/");
    if (kind === "policies") return one(rules.policies.find(({ model }) => model === id));
    if (kind === "bundles") return one(fixture.bundles(null).find((bundle) => bundle.sha256 === id));
    if (kind === "devices" && more === "tags") return send(rules.tags(id));
    if (kind === "rollouts" && more === "devices") return page(fixture.rolloutDevices);
    if (kind === "rollouts") return one(fixture.rollouts().find((rollout) => rollout.id === id));
    if (kind === "runs") return one(fixture.runs().find((run) => run.id === id));
    if (kind === "devices") {
      const n = Array.from({ length: devices }, (_, i) => i).find((i) => fixture.device(i).id === id);
      return one(n === undefined ? undefined : fixture.deviceDetail(n));
    }
    return missing();
  }

  function act(path, send, missing) {
    const [, kind, id, verb] = path.split("/");
    const rollout = fixture.rollouts().find((one) => one.id === id);
    if (kind === "rollouts" && rollout !== undefined) {
      if (verb === "abort") return send({ type: "about:blank", title: "Conflict", status: 409, code: "stale_revision", detail: "The rollout moved on to revision 13 since this page was drawn: look again." }, 409);
      emit("rollout_paused", id);
      return send({ ...rollout, phase: { is: "paused", since: nowIso(), stage: 1, reason: null } });
    }
    if (kind === "identities") {
      emit(`identity.${verb}`, id);
      return send({});
    }
    return kind === "incidents" ? send({}) : missing();
  }

  function list(q) {
    const start = Number(q.get("cursor") ?? 0);
    const limit = Number(q.get("limit") ?? 100);
    if (!empty && ["q", "site", "presence", "phase", "model"].every((key) => !q.has(key))) {
      const items = Array.from({ length: Math.max(0, Math.min(limit, devices - start)) }, (_, i) => fixture.device(start + i));
      return { items, next: start + limit < devices ? String(start + limit) : null };
    }
    const all = empty ? [] : Array.from({ length: devices }, (_, i) => fixture.device(i));
    const has = (device, key, of) => q.get(key) === null || of(device).includes(q.get(key));
    const found = all.filter(
      (device) =>
        has(device, "q", (d) => `${d.name} ${d.id}`) && has(device, "site", (d) => [d.site]) && has(device, "presence", (d) => [d.presence]) &&
        has(device, "phase", (d) => d.slots.map((s) => s.phase.is)) && has(device, "model", (d) => d.slots.map((s) => s.slot)),
    );
    return { items: found.slice(start, start + limit), next: start + limit < found.length ? String(start + limit) : undefined };
  }

  function bodyOf(request, use) {
    let text = "";
    request.on("data", (piece) => (text += piece));
    request.on("end", () => use(JSON.parse(text)));
  }

  function planned(body, q, send) {
    const bundle = fixture.bundles(null).find(({ sha256 }) => sha256 === body.bundle);
    const boxes = Array.from({ length: devices }, (_, i) => fixture.device(i));
    const said = rules.rehearse(body, { bundle, boxes });
    if (said.status !== undefined || q.get("dry_run") === "true") return send(said, said.status ?? 200);
    made.push(body);
    emit("rollout.started", fixture.rollouts()[0].id);
    return send(fixture.rollouts()[0], 201);
  }

  function tagged(body, q, send) {
    const site = /^site=([\w-]+)$/.exec(body.filter)?.[1];
    const found = Array.from({ length: Math.min(devices, 1_000) }, (_, i) => fixture.device(i)).filter((box) => site === undefined || box.site === site);
    if (q.get("dry_run") !== "true") made.push(body);
    return send({ dry_run: q.get("dry_run") === "true", devices: found.length, changed: found.length, names: found.slice(0, 100).map(({ name }) => name) });
  }

  function changed(path, body, send, missing) {
    const [, kind, name] = path.split("/");
    made.push(body);
    if (kind === "cohorts") cohorts = [...cohorts.filter((cohort) => cohort.name !== name), { name, filter: body.filter, revision: 1 }];
    else if (kind === "sites") sites = sites.map((known) => (known.site === name ? { ...known, ...body, revision: known.revision + 1 } : known));
    else if (kind !== "policies" && kind !== "devices") return missing();
    return send(body);
  }

  return new Promise((resolve) => {
    server.listen(port, "127.0.0.1", () => {
      resolve({
        url: `http://127.0.0.1:${server.address().port}`,
        emit,
        made,
        stop: () => new Promise((done) => {
          for (const stream of streams) stream.end();
          server.close(done);
          server.closeAllConnections();
        }),
      });
    });
  });
}

/** A page as the server cuts it. */
function cut(items, q) {
  const [start, limit] = [Number(q.get("cursor") ?? 0), Number(q.get("limit") ?? 100)];
  return { items: items.slice(start, start + limit), next: start + limit < items.length ? String(start + limit) : null };
}

function file(request, response, path) {
  const wanted = join(dist, normalize(path));
  const found = path !== "/" && wanted.startsWith(dist) && existsSync(wanted) ? wanted : join(dist, "index.html");
  const headers = { "content-type": types[extname(found)] ?? "application/octet-stream", "content-security-policy": policy, "x-content-type-options": "nosniff" };
  const small = (request.headers["accept-encoding"] ?? "").includes("br") && existsSync(`${found}.br`);
  response.writeHead(200, small ? { ...headers, "content-encoding": "br" } : headers);
  createReadStream(small ? `${found}.br` : found).pipe(response);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const fake = await startFake({ port: Number(process.env.PORT ?? 8480), devices: Number(process.env.DEVICES ?? 6), empty: process.env.EMPTY === "1" });
  console.log(`fake fleet API on ${fake.url}`);
}
