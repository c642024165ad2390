// A GraphQL server, graphql-yoga: a mutation mints session tokens for the holder of a key, queries want a session.
// Settings come as JSON in the first argument, what a test needs to know goes as one line of JSON to stdout, and the
// end of stdin is the end.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'

import { GraphQLError } from 'graphql'
import { createSchema, createYoga } from 'graphql-yoga'

const { key } = JSON.parse(process.argv[2])
const sessions = new Map()
const seen = { minted: 0, mistakes: 0, refused: 0, payments: 0 }

// Highnote and many others say 401 so: in a 200.
const unauthenticated = () => {
  seen.refused += 1
  return new GraphQLError('Not authenticated', { extensions: { code: 'UNAUTHENTICATED' } })
}
const account = ({ session }) => {
  if (!session) throw unauthenticated()
  return session
}

const schema = createSchema({
  typeDefs: /* GraphQL */ `
    type Query {
      me: Account!
      greeting: String!
      nickname: String
    }
    type Mutation {
      mint(account: ID!, minutes: Int!): MintResult!
      pay(amount: Int!): Int!
    }
    union MintResult = ClientToken | UserError
    type ClientToken { value: String!, expiresAt: String! }
    type UserError { errors: [Problem!]! }
    type Problem { code: String!, description: String! }
    type Account { id: ID! }
  `,
  resolvers: {
    Query: {
      me: (_, __, context) => ({ id: account(context).account }),
      greeting: () => 'hello',
      nickname: (_, __, context) => account(context).account,
    },
    Mutation: {
      mint: (_, { account, minutes }, { isOwner }) => {
        if (!isOwner) throw unauthenticated()
        if (!account.startsWith('ac_')) {
          seen.mistakes += 1
          return { __typename: 'UserError', errors: [{ code: 'INVALID_ID', description: `no account ${account}` }] }
        }
        seen.minted += 1
        const value = `session-${randomUUID()}`
        const ends = Date.now() + minutes * 60_000
        sessions.set(value, { account, ends })
        return { __typename: 'ClientToken', value, expiresAt: new Date(ends).toISOString() }
      },
      pay: (_, { amount }, context) => {
        account(context)
        seen.payments += 1
        return amount
      },
    },
  },
})

const yoga = createYoga({
  schema,
  logging: false,
  context: ({ request }) => {
    const [scheme, credential] = (request.headers.get('authorization') ?? '').split(' ')
    const session = scheme === 'Bearer' ? sessions.get(credential) : undefined
    const basic = Buffer.from(`${key}:`).toString('base64')
    return {
      isOwner: scheme === 'Basic' && credential === basic,
      session: session && session.ends > Date.now() ? session : undefined,
    }
  },
})
const listener = http.createServer((request, answer) => {
  if (request.url === '/seen') return answer.end(JSON.stringify(seen))
  if (request.url === '/revoke') {
    sessions.clear()
    return answer.end('{}')
  }
  return yoga(request, answer)
})
listener.listen(0, '127.0.0.1')
await once(listener, 'listening')

const origin = `http://127.0.0.1:${listener.address().port}`
console.log(JSON.stringify({ api: origin, graphql: `${origin}/graphql` }))
process.stdin.on('end', () => process.exit()).resume()
