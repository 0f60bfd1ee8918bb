// Bundles the agent program into one directory of .mjs files: what an idle agent needs in main.mjs, everything else in files that are loaded when asked for.
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { build } from 'esbuild'

/**
 * Writes the bundle of `entry` into `directory`; gives back the npm packages that are in it, as `{name, version, license, text}` sorted by name.
 */
export async function bundleAgent({ entry, directory, root }) {
  const result = await build({
    entryPoints: { main: entry },
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    minify: true,
    // Names of classes and functions are in error messages and stack traces.
    keepNames: false,
    legalComments: 'none',
    metafile: true,
    absWorkingDir: root,
    // CommonJS packages ask for node's own modules by `require`, which an ES module has not.
    banner: { js: "import{createRequire as lichenRequire}from'node:module';const require=lichenRequire(import.meta.url);" },
    logLevel: 'warning',
  })
  const directories = new Set(Object.keys(result.metafile.inputs).flatMap((input) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1] ?? []))
  return [...directories].sort().map((path) => readLicense(join(root, path)))
}

function readLicense(directory) {
  const { name, version, license } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'))
  for (const file of ['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'LICENCE', 'license', 'license.md']) {
    try {
      return { name, version, license, text: readFileSync(join(directory, file), 'utf8') }
    } catch {
      // the next name
    }
  }
  return { name, version, license, text: `(the package has no licence file; its package.json says ${license})` }
}

export const packageRoot = dirname(import.meta.dirname)
