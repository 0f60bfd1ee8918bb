/**
 * The disk of a simulated node. Owns its files, as the kernel has them and as they are on the platter. The death of a process loses nothing that was written; that of the
 * machine loses what was not synced, or a part of it, or tears it.
 *
 * 1. `sync` of a file makes what was written to it before the call durable; names are durable after `syncDirectory`.
 * 2. At a crash each file keeps, of its writes that were not synced, none, all, or those before one that is torn (cut, with a hole, or with garbage at its end).
 */
import type { Disk, DiskFile, OpenMode } from '@lichen/agent'
import type { Life } from '../machine.js'
import type { Random } from '../random.js'
import type { Scheduler } from '../scheduler.js'

interface Write {
  readonly position: number
  readonly bytes: Buffer
}

/** Bytes of a file; what lies behind them up to `sizeBytes` is zeros, and takes no memory. */
class Content {
  #bytes = Buffer.alloc(0)
  #used = 0
  sizeBytes = 0

  write({ position, bytes }: Write): void {
    this.sizeBytes = Math.max(this.sizeBytes, position + bytes.length)
    const end = position + bytes.length
    if (position >= this.#used && isZero(bytes)) return
    if (end > this.#bytes.length) {
      const grown = Buffer.alloc(Math.max(4096, end, this.#bytes.length * 2))
      this.#bytes.copy(grown, 0, 0, this.#used)
      this.#bytes = grown
    }
    bytes.copy(this.#bytes, position)
    this.#used = Math.max(this.#used, end)
  }

  read(sizeBytes: number, position: number): Buffer {
    const length = Math.max(0, Math.min(sizeBytes, this.sizeBytes - position))
    const read = Buffer.alloc(length)
    if (position < this.#used) this.#bytes.copy(read, 0, position, Math.min(this.#used, position + length))
    return read
  }

  truncate(sizeBytes: number): void {
    if (sizeBytes < this.#used) {
      this.#bytes.fill(0, sizeBytes, this.#used)
      this.#used = sizeBytes
    }
    this.sizeBytes = sizeBytes
  }

  copy(): Content {
    const copy = new Content()
    copy.#bytes = Buffer.from(this.#bytes.subarray(0, this.#used))
    copy.#used = this.#used
    copy.sizeBytes = this.sizeBytes
    return copy
  }
}

// What `fill` writes, as much at once as the real disk takes; known by being a part of this.
const zeros = Buffer.alloc(1024 * 1024)
const isZero = (bytes: Buffer): boolean => bytes.buffer === zeros.buffer

/** What a file is, whatever its names. */
interface Inode {
  now: Content
  durable: Content
  /** Written or cut, and not synced; a number: cut to this size. */
  unsynced: (Write | number)[]
}

/** What may go wrong with a disk; the sabotage of the tests is in here too, beside what real disks do. */
export interface DiskWeather {
  /** How much slower than usual syncs are. */
  slowness: number
  /** Nothing that makes a file longer is taken. */
  isFull: boolean
  /** Syncs of what has such a path do nothing: what a disk does that lies, and what no protection helps against. */
  forgetsSyncs: RegExp | undefined
  /** Names that are not found any more when a process starts. */
  hides: RegExp | undefined
}

// What a torn write has at its end instead of its own bytes, at most: a page.
const garbageBytes = 4096

const noSpace = (): Error => Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
const noEntry = (path: string): Error => Object.assign(new Error(`ENOENT: no such file or directory, open '${path}'`), { code: 'ENOENT' })
const directoryOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))

/** See the file header. */
export class NodeDisk {
  readonly weather: DiskWeather = { slowness: 1, isFull: false, forgetsSyncs: undefined, hides: undefined }
  readonly #scheduler: Scheduler
  readonly #random: Random
  #names = new Map<string, Inode>()
  #durableNames = new Map<string, Inode>()
  /** Writes until `onWrite` is called, once; see `tearAt`. */
  #tear: { writes: number; readonly then: () => void } | undefined

  constructor(scheduler: Scheduler, random: Random) {
    this.#scheduler = scheduler
    this.#random = random
  }

  /** In the middle of the write that is so many writes away, `then` is called; what of that write has reached the kernel is by chance. */
  tearAt(writes: number, then: () => void): void {
    this.#tear = { writes, then }
  }

  /** The machine lost its power. */
  crash(): void {
    this.#tear = undefined
    const survivors = new Map<string, Inode>()
    for (const [path, inode] of this.#random.chance(0.5) ? this.#durableNames : this.#mixNames()) survivors.set(path, inode)
    const seen = new Set<Inode>()
    for (const inode of survivors.values()) {
      if (seen.has(inode)) continue
      seen.add(inode)
      this.#tearInode(inode)
    }
    this.#names = survivors
    this.#durableNames = new Map(survivors)
  }

  /** The disk as this process sees it. What a process does after its death has no effect. */
  openFor(life: Life): Disk {
    return {
      makeDirectory: () => undefined,
      list: (path) => [...this.#names.keys()].filter((name) => directoryOf(name) === path).map((name) => name.slice(path.length + 1)),
      open: (path, mode) => this.#open(life, path, mode),
      rename: (from, to) => {
        const inode = this.#names.get(from)
        if (inode === undefined) throw noEntry(from)
        if (!life.isAlive) return
        this.#names.delete(from)
        this.#names.set(to, inode)
      },
      remove: (path) => void (life.isAlive && this.#names.delete(path)),
      exists: (path) => this.#names.has(path) && this.weather.hides?.test(path) !== true,
      syncDirectory: (path) =>
        new Promise((resolve) => {
          if (!life.isAlive) return
          this.#scheduler.at(this.#scheduler.now + this.#random.delay(1.2) * this.weather.slowness, life, 'directory synced', () => {
            this.#syncNames(path)
            resolve()
          })
        }),
      syncDirectoryNow: (path) => void (life.isAlive && this.#syncNames(path)),
      freeBytes: () => (this.weather.isFull ? 0 : 1e9),
    }
  }

  #syncNames(path: string): void {
    if (this.weather.forgetsSyncs?.test(path)) return
    for (const name of [...this.#durableNames.keys()]) if (directoryOf(name) === path && !this.#names.has(name)) this.#durableNames.delete(name)
    for (const [name, inode] of this.#names) if (directoryOf(name) === path) this.#durableNames.set(name, inode)
  }

  #open(life: Life, path: string, mode: OpenMode): DiskFile {
    let inode = this.#names.get(path)
    if (inode === undefined) {
      if (mode === 'read') throw noEntry(path)
      inode = { now: new Content(), durable: new Content(), unsynced: [] }
      if (life.isAlive) this.#names.set(path, inode)
    } else if (mode === 'replace' && life.isAlive) cut(inode, 0)
    return this.#buildFile(life, path, inode)
  }

  #buildFile(life: Life, path: string, inode: Inode): DiskFile {
    const sync = (upTo: number): void => {
      if (this.weather.forgetsSyncs?.test(path)) return
      for (const change of inode.unsynced.splice(0, upTo)) apply(inode.durable, change)
    }
    return {
      write: (parts, position) => this.#write(life, inode, parts, position),
      fill: (sizeBytes, position) => this.#write(life, inode, [zeros.subarray(0, sizeBytes)], position),
      read: (sizeBytes, position) => inode.now.read(sizeBytes, position),
      sync: () =>
        new Promise((resolve) => {
          if (!life.isAlive) return
          const { unsynced } = inode
          const last = unsynced.at(-1)
          this.#scheduler.at(this.#scheduler.now + this.#random.delay(1.2) * this.weather.slowness, life, 'synced', () => {
            if (last !== undefined) sync(inode.unsynced.indexOf(last) + 1)
            resolve()
          })
        }),
      syncNow: () => void (life.isAlive && sync(inode.unsynced.length)),
      get sizeBytes() {
        return inode.now.sizeBytes
      },
      close: () => undefined,
    }
  }

  #write(life: Life, inode: Inode, parts: readonly Buffer[], position: number): number {
    const bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts)
    if (!life.isAlive) return bytes.length
    if (this.weather.isFull && position + bytes.length > inode.now.sizeBytes) {
      const room = Math.max(0, inode.now.sizeBytes - position)
      if (room === 0) throw noSpace()
      put(inode, { position, bytes: bytes.subarray(0, room) })
      return room
    }
    if (this.#tear !== undefined && (this.#tear.writes -= 1) <= 0) {
      const { then } = this.#tear
      this.#tear = undefined
      put(inode, { position, bytes: bytes.subarray(0, this.#random.integer(0, bytes.length)) })
      then()
      return bytes.length
    }
    put(inode, { position, bytes })
    return bytes.length
  }

  /** Names as they would be when some changes of directories had reached the disk and some had not. */
  #mixNames(): Map<string, Inode> {
    return this.#random.chance(0.5) ? this.#names : this.#durableNames
  }

  #tearInode(inode: Inode): void {
    const { unsynced } = inode
    const kept = this.#random.chance(0.3) ? 0 : this.#random.chance(0.3) ? unsynced.length : this.#random.integer(0, unsynced.length)
    for (const change of unsynced.slice(0, kept)) apply(inode.durable, change)
    const torn = unsynced[kept]
    if (torn !== undefined && typeof torn !== 'number' && torn.bytes.length > 0) inode.durable.write({ position: torn.position, bytes: this.#tearBytes(torn.bytes) })
    inode.unsynced = []
    inode.now = inode.durable.copy()
  }

  #tearBytes(bytes: Buffer): Buffer {
    const length = this.#random.integer(0, bytes.length)
    const torn = Buffer.from(bytes.subarray(0, length))
    const kind = this.#random.integer(0, 2)
    if (kind === 1) torn.fill(0, 0, this.#random.integer(0, length))
    else if (kind === 2) for (let at = this.#random.integer(Math.max(0, length - garbageBytes), length); at < length; at++) torn[at] = this.#random.integer(0, 255)
    return torn
  }
}

function apply(content: Content, change: Write | number): void {
  if (typeof change === 'number') content.truncate(change)
  else content.write(change)
}

function put(inode: Inode, { position, bytes }: Write): void {
  // Copied: the caller may use its buffer again. Not what is all zeros.
  const write = { position, bytes: isZero(bytes) ? bytes : Buffer.from(bytes) }
  inode.now.write(write)
  inode.unsynced.push(write)
}

function cut(inode: Inode, sizeBytes: number): void {
  inode.now.truncate(sizeBytes)
  inode.unsynced.push(sizeBytes)
}
