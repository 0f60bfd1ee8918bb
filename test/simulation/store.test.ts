import t from 'tap'
import { openStoreClient } from '../../simulation/store/client.js'
import { Database } from '../../simulation/store/database.js'
import { testStore } from '../store/contract.js'

// What the simulator says of engines and agents is worth as much as its store is like the real ones: it passes the same contract.
t.test('the store of the simulator', async (t) => {
  testStore(t, async () => {
    const database = new Database()
    const soon = (callback: () => void): void => void setImmediate(callback)
    return {
      open: async () =>
        openStoreClient({ database, soon, call: <T>(_what: string, body: () => T) => new Promise<T>((resolve, reject) => soon(() => {
          try {
            resolve(body())
          } catch (error) {
            reject(error as Error)
          }
        })) }),
    }
  })
})
