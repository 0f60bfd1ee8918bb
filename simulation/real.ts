/**
 * The few real things that the scheduler itself needs, taken before anything is forbidden, and the guard that forbids them to everybody else: code that runs in the
 * simulator and looks at the real clock, sets a real timer or draws real randomness would make a seed mean something else each time.
 */
import { performance } from 'node:perf_hooks'

/** As they were when this file was loaded. */
export const nextTick = process.nextTick.bind(process)
const realElapsed = performance.now.bind(performance)

/** Real milliseconds, for measuring how fast the simulator is. */
export const stopwatch = (): number => realElapsed()

const forbidden = ['setTimeout', 'setInterval', 'setImmediate'] as const

/** Forbids the real clock, real timers and real randomness until the function that is given back is called. `leaks` gets one text for each use. */
export function forbidReality(leaks: (what: string) => void): () => void {
  const undo: (() => void)[] = []
  const replace = <T extends object>(target: T, name: keyof T, value: unknown): void => {
    const before = Object.getOwnPropertyDescriptor(target, name)
    Object.defineProperty(target, name, { configurable: true, writable: true, value })
    undo.push(() => (before === undefined ? Reflect.deleteProperty(target, name) : Object.defineProperty(target, name, before)))
  }
  const refuse = (what: string) => (): never => {
    const stack = new Error(what).stack?.split('\n').slice(2, 5).map((line) => line.trim()).join(' < ') ?? ''
    leaks(`${what} ${stack}`)
    throw new Error(`${what} in the simulator`)
  }
  for (const name of forbidden) replace(globalThis, name, refuse(`real ${name}`))
  replace(Date, 'now', refuse('Date.now'))
  replace(Math, 'random', refuse('Math.random'))
  // The template engine measures how long it renders, against a limit of its own: it may look at a clock that stands still, and nobody else.
  const refuseElapsed = refuse('performance.now')
  replace(performance, 'now', () => (calledByTemplates() ? 0 : refuseElapsed()))
  return () => undo.reverse().forEach((one) => one())
}

function calledByTemplates(): boolean {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 3
  const { stack } = new Error()
  Error.stackTraceLimit = stackTraceLimit
  return stack?.includes('/liquidjs/') === true
}
