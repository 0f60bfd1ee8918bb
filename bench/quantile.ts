/** The value below which `share` (0 to 1) of the samples lie; NaN for none. Sorts a copy. */
export function quantile(samples: readonly number[], share: number): number {
  if (samples.length === 0) return Number.NaN
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!
}

/** Median of the samples. */
export const median = (samples: readonly number[]): number => quantile(samples, 0.5)
