// An authorization server, oidc-provider, and a protected resource that takes nothing but its word for a token.
// Settings come as JSON in the first argument, what a test needs to know goes as one line of JSON to stdout, and the
// end of stdin is the end.
import { X509Certificate, generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'

import { createRemoteJWKSet, jwtVerify } from 'jose'

// Advice for those who run it in production.
console.warn = () => {}
// Node 20 has none, and oidc-provider calls it.
URL.parse ??= (text) => (URL.canParse(text) ? new URL(text) : null)
const { Provider } = await import('oidc-provider')

const { client, key, certificate, tls, ttl = 3600, format = 'jwt' } = JSON.parse(process.argv[2])
const resource = 'https://api.example/orders?region=eu'

// The client's key is made here: by OpenSSL, in the form that OpenSSL gives a key of its kind.
const pair = key && generateKeyPairSync(key, { modulusLength: 2048, namedCurve: 'P-256' })
const encoding = { rsa: 'pkcs1', ec: 'sec1', ed25519: 'pkcs8' }[key]
const jwks = []
if (pair) jwks.push(pair.publicKey.export({ format: 'jwk' }))
if (certificate) {
  const known = new X509Certificate(certificate)
  jwks.push({ ...known.publicKey.export({ format: 'jwk' }), x5c: [known.raw.toString('base64')] })
}

const { privateKey: signing } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const resourceServer = { client_id: 'api', client_secret: randomUUID() }

const listener = tls
  ? https.createServer({ ...tls, requestCert: true, rejectUnauthorized: false })
  : http.createServer()
listener.listen(0, '127.0.0.1')
await once(listener, 'listening')
const issuer = `${tls ? 'https' : 'http'}://127.0.0.1:${listener.address().port}`

const oidc = new Provider(issuer, {
  clients: [
    {
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      ...(jwks.length && { jwks: { keys: jwks } }),
      ...client,
    },
    {
      ...resourceServer,
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: [],
      response_types: [],
      redirect_uris: [],
    },
  ],
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
    'self_signed_tls_client_auth', 'none',
  ],
  enabledJWA: {
    clientAuthSigningAlgValues: ['HS256', 'HS384', 'HS512', 'RS256', 'PS256', 'ES256', 'EdDSA'],
  },
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [signing.export({ format: 'jwk' })] },
  cookies: { keys: [randomUUID()] },
  scopes: ['offline_access', 'orders:read', 'orders:write'],
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  rotateRefreshToken: true,
  ttl: { AccessToken: ttl, ClientCredentials: ttl, RefreshToken: 86400, Grant: 86400 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: ({ req }) => req.socket.getPeerX509Certificate?.()?.toString(),
      certificateAuthorized: ({ req }) => req.socket.authorized,
      certificateSubjectMatches: ({ req }, property, expected) =>
        property === 'tls_client_auth_san_dns'
        && req.socket.getPeerX509Certificate().subjectAltName === `DNS:${expected}`,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, asked) => ({
        scope: 'orders:read orders:write',
        audience: asked,
        accessTokenFormat: format,
        accessTokenTTL: ttl,
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
})
const happened = {}
for (const event of ['grant.success', 'grant.error', 'grant.revoked', 'server_error']) {
  oidc.on(event, () => { happened[event] = (happened[event] ?? 0) + 1 })
}
let reason
oidc.on('grant.error', (_, error) => { reason = `${error.message}: ${error.error_detail ?? error.error_description}` })
oidc.on('server_error', (_, error) => console.error(error))
listener.on('request', oidc.callback())

// A refresh token as a person at a browser would have brought it about.
let refreshToken
if (client.grant_types?.includes('refresh_token')) {
  const registered = await oidc.Client.find(client.client_id)
  const grant = new oidc.Grant({ accountId: 'ada', clientId: client.client_id })
  grant.addResourceScope(resource, 'orders:read')
  const grantId = await grant.save()
  refreshToken = await new oidc.RefreshToken({
    accountId: 'ada', client: registered, grantId, gty: 'authorization_code', resource, scope: 'orders:read',
  }).save()
}

const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`))
const post = (endpoint, form) => fetch(`${issuer}/token/${endpoint}`, {
  method: 'POST', body: new URLSearchParams(form),
})

// What the authorization server says of a token; throws unless it is good now.
async function claims(token) {
  if (token.split('.').length === 3) {
    return (await jwtVerify(token, keys, { issuer, audience: resource, typ: 'at+jwt' })).payload
  }
  const answer = await post('introspection', { ...resourceServer, token })
  const said = await answer.json()
  if (!said.active) throw new Error('inactive')
  return said
}

const accepted = new Set()
let requests = 0
let refused = 0
const say = (answer, status, document, headers) => {
  answer.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(document))
}
const api = http.createServer(async (request, answer) => {
  request.resume()
  if (request.url === '/seen') {
    return say(answer, 200, { requests, refused, tokens: accepted.size, happened, reason })
  }
  if (request.url === '/revoke') {
    const { client_id, client_secret } = client
    for (const token of accepted) await post('revocation', { client_id, client_secret, token })
    return say(answer, 200, {})
  }
  requests += 1
  const [, token] = /^Bearer (.+)$/.exec(request.headers.authorization) ?? []
  try {
    const known = await claims(token)
    accepted.add(token)
    say(answer, 200, known)
  } catch (error) {
    refused += 1
    say(answer, 401, { error: error.message }, { 'www-authenticate': 'Bearer error="invalid_token"' })
  }
})
api.listen(0, '127.0.0.1')
await once(api, 'listening')

console.log(JSON.stringify({
  issuer,
  token_endpoint: `${issuer}/token`,
  api: `http://127.0.0.1:${api.address().port}`,
  resource,
  key: pair?.privateKey.export({ type: encoding, format: 'pem' }),
  refresh_token: refreshToken,
}))
process.stdin.on('end', () => process.exit()).resume()
