/** A place among those who want to change packages. */
export interface PackagePlace {
  /** Resolves when all who came before have left. */
  enter(): Promise<void>
  /** Also of a place that was never entered. */
  leave(): void
}

/** The one place on a node where packages are changed: dpkg allows one at a time, and waiting here costs less than waiting for its lock. */
export class PackageLock {
  #last: Promise<void> = Promise.resolve()

  /** The next place. Who takes one before it is known whether there is anything to change has its turn in the order in which orders came, and not of who knew it first. */
  queue(): PackagePlace {
    const before = this.#last
    let leave: () => void = () => {}
    const left = new Promise<void>((resolve) => (leave = resolve))
    this.#last = before.then(() => left)
    return { enter: () => before, leave: () => leave() }
  }

  /** Resolves when it is this caller's turn, in the order of asking; what it gives back ends the turn. */
  async enter(): Promise<() => void> {
    const place = this.queue()
    await place.enter()
    return () => place.leave()
  }
}
