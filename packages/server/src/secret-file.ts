import { randomBytes } from 'node:crypto'
import { link, open, readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/** The trimmed text of the file; undefined when there is none. */
export async function readSecretFile(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}

/**
 * What the file holds after it was made with this text if it was not there: of two processes that make it at once, both get the text of the
 * first. Mode 0600, durable (fsync of file and directory) before it has its name.
 */
export async function writeSecretFileIfAbsent(path: string, text: string): Promise<string> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  const file = await open(draft, 'wx', 0o600)
  try {
    await file.writeFile(`${text}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await link(draft, path)
  } catch (error) {
    if ((error as { code?: string }).code !== 'EEXIST') throw error
  } finally {
    await rm(draft)
  }
  const directory = await open(dirname(path), 'r')
  await directory.sync().finally(() => directory.close())
  return (await readSecretFile(path)) ?? text
}
