/** The one place on a node where packages are changed: dpkg allows one at a time, and waiting here costs less than waiting for its lock. */
export class PackageLock {
  #last: Promise<void> = Promise.resolve()

  /** Resolves when it is this caller's turn, in the order of asking; what it gives back ends the turn. */
  async enter(): Promise<() => void> {
    const before = this.#last
    let leave: () => void = () => {}
    this.#last = new Promise((resolve) => (leave = resolve))
    await before
    return leave
  }
}
