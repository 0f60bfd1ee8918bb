// `npm run demo`: the program is compiled TypeScript in packages/demo, which scripts/setup.mjs has built before this.
await import('../packages/demo/dist/main.js')
