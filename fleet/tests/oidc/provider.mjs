// The identity provider `oidc-provider` on a loopback port, for one client and one person. It prints its port when it is up.
//
// It can be told to misbehave once: /misbehave/{nonce,audience,expired,old,stranger} makes the next token such a one, and it must be
// refused: the first four are signed by the provider's own key.
import { createServer } from "node:http";
import { generateKeyPair, exportJWK, SignJWT, decodeJwt } from "jose";
import { Provider } from "oidc-provider";

const [redirect] = process.argv.slice(2);
const { privateKey } = await generateKeyPair("RS256", { extractable: true });
const { privateKey: stranger } = await generateKeyPair("RS256", { extractable: true });
const jwk = { ...(await exportJWK(privateKey)), kid: "test", use: "sig", alg: "RS256" };

let misbehaving = null;
let groups = ["ml-operators"];

const server = createServer();
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{ client_id: "muster", client_secret: "a-secret-of-the-test", redirect_uris: [redirect], grant_types: ["authorization_code"], response_types: ["code"] }],
  jwks: { keys: [jwk] },
  cookies: { keys: ["test"] },
  pkce: { required: () => true },
  conformIdTokenClaims: false,
  claims: { openid: ["sub"], profile: ["name", "preferred_username", "groups"] },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: "Ada Lovelace", preferred_username: "ada", groups }),
  }),
  // Who is asked is at once logged in and agrees.
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  features: { devInteractions: { enabled: false } },
});

provider.use(async (ctx, next) => {
  if (ctx.path.startsWith("/misbehave/")) {
    misbehaving = ctx.path.split("/")[2];
    ctx.body = "ok";
    return;
  }
  if (ctx.path.startsWith("/groups/")) {
    groups = ctx.path.split("/")[2].split(",").filter((group) => group !== "");
    ctx.body = "ok";
    return;
  }
  if (ctx.path.startsWith("/interaction/")) {
    const { prompt, params, session, grantId } = await provider.interactionDetails(ctx.req, ctx.res);
    if (prompt.name === "login") {
      await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: "person-1" } });
    } else {
      const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      grant.addOIDCScope("openid profile");
      await provider.interactionFinished(ctx.req, ctx.res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
    }
    ctx.respond = false;
    return;
  }
  await next();
  if (ctx.path === "/token" && misbehaving !== null && ctx.body?.id_token) {
    const claims = decodeJwt(ctx.body.id_token);
    const now = Math.floor(Date.now() / 1000);
    if (misbehaving === "nonce") claims.nonce = "of-another-login";
    if (misbehaving === "audience") claims.aud = "another-client";
    if (misbehaving === "expired") Object.assign(claims, { iat: now - 60, exp: now - 1 });
    if (misbehaving === "old") Object.assign(claims, { iat: now - 3600, exp: now + 3600 });
    const key = misbehaving === "stranger" ? stranger : privateKey;
    ctx.body = { ...ctx.body, id_token: await new SignJWT(claims).setProtectedHeader({ alg: "RS256", kid: "test" }).sign(key) };
    misbehaving = null;
  }
});

server.on("request", provider.callback());
console.log(server.address().port);
