/**
 * Reads that many ask for at the same time, such as the tasks that are about to be planned: what is asked for while one statement runs is answered by the next one, together. A statement costs two turns of
 * the event loop however few rows it gives, and one connection runs them one after the other. Nobody waits for others to come: the first read of a quiet store begins at once.
 *
 * A read begins after it was asked for, so it sees everything that was committed before.
 */

/** `read` gives the values of up to `limit` keys, in their order; when it fails, all who wait for it fail with its error. */
export function batchReads<Key, Value>(limit: number, read: (keys: readonly Key[]) => Promise<readonly Value[]>): (key: Key) => Promise<Value> {
  const waiting: { readonly key: Key; resolve(value: Value): void; reject(error: unknown): void }[] = []
  let isRunning = false

  async function run(): Promise<void> {
    for (let batch = waiting.splice(0, limit); batch.length > 0; batch = waiting.splice(0, limit)) {
      try {
        const values = await read(batch.map((one) => one.key))
        batch.forEach((one, index) => one.resolve(values[index] as Value))
      } catch (error) {
        for (const one of batch) one.reject(error)
      }
    }
    isRunning = false
  }

  return (key) =>
    new Promise((resolve, reject) => {
      waiting.push({ key, resolve, reject })
      if (isRunning) return
      isRunning = true
      void run()
    })
}
