/** The demo's own lines on the terminal: one for each step, with the time it took. */
import { styleText } from 'node:util'

export interface StepsOptions {
  readonly write: (text: string) => void
  readonly hasColour: boolean
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export interface Steps {
  /** What `work` gives, with a line before it and one with its time after it. */
  run<T>(title: string, work: () => Promise<T>): Promise<T>
  /** A line that belongs to the step that runs. */
  note(line: string): void
  /** A line of its own. */
  say(line: string): void
  /** Titles with their times in seconds, and the sum of all. */
  printTimes(): void
}

/** Steps of a run that starts now. */
export function openSteps(options: StepsOptions): Steps {
  const style = (format: Parameters<typeof styleText>[0], text: string) => (options.hasColour ? styleText(format, text) : text)
  const startedAt = options.now()
  const times: { title: string; seconds: number }[] = []
  const write = (text: string) => options.write(`${text}\n`)
  return {
    run: async (title, work) => {
      write(style('bold', `==> ${title}`))
      const begin = options.now()
      const result = await work()
      const seconds = (options.now() - begin) / 1000
      times.push({ title, seconds })
      write(style('green', `    done in ${seconds.toFixed(1)} s`))
      return result
    },
    note: (line) => write(style('dim', `    ${line}`)),
    say: write,
    printTimes: () => {
      write(style('bold', '==> times'))
      for (const { title, seconds } of times) write(`    ${seconds.toFixed(1).padStart(6)} s  ${title}`)
      write(`    ${((options.now() - startedAt) / 1000).toFixed(1).padStart(6)} s  altogether`)
    },
  }
}
