/** Why the demo cannot go on, in words for the person at the terminal; `output` holds the last lines of the program that failed. */
export class DemoFailure extends Error {
  readonly output: string

  constructor(message: string, output = '') {
    super(message)
    this.name = 'DemoFailure'
    this.output = output
  }
}

/** Why no nodes can be made on this machine, found out while trying: the demo then runs without. */
export class NodesImpossible extends Error {
  constructor(reason: string) {
    super(reason)
    this.name = 'NodesImpossible'
  }
}

/** Ctrl-C, SIGTERM or SIGHUP. */
export class Interrupted extends Error {
  readonly signal: NodeJS.Signals

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`)
    this.name = 'Interrupted'
    this.signal = signal
  }
}
