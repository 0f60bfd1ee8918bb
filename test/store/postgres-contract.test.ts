import t from 'tap'
import { openPostgresStore } from '@lichen/store'
import { startPostgres } from '../postgres.js'
import { testStore } from './contract.js'

// What is asked here does not depend on flushing.
const server = await startPostgres(t, { settings: { fsync: 'off' } })
if (server !== undefined) {
  t.test('the PostgreSQL store keeps the contract', async (t) => {
    let schemas = 0
    // A schema of its own is as empty as a database, and made a hundred times without copying one.
    testStore(t, async () => {
      const schema = `s${(schemas += 1)}`
      await server.query(`CREATE SCHEMA ${schema}`)
      const url = `${server.url}?options=${encodeURIComponent(`-c search_path=${schema}`)}`
      return { open: () => openPostgresStore({ url }) }
    })
  })
}
