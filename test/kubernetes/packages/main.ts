/** `npm run kube-packages [-- CACHE]`: builds the Kubernetes packages that tests install, and prints the directory they are in as its last line. */
import { LichenError } from '@lichen/core'
import { buildKubePackages } from './build.js'

const startedAt = Date.now()
const log = (line: string): void => console.error(`${((Date.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${line}`)
try {
  const { directory, packageVersions, images } = await buildKubePackages({ cacheDirectory: process.argv[2] ?? process.env['LICHEN_LAB_CACHE'] ?? '/var/cache/lichen-lab', log })
  log(`packages ${Object.values(packageVersions).join(' and ')}, ${images.length} images`)
  console.log(directory)
} catch (error) {
  if (!(error instanceof LichenError)) throw error
  console.error(`kube-packages: ${error.code}: ${error.message}`)
  process.exitCode = 1
}
