export interface BundledPackage {
  readonly name: string
  readonly version: string
  readonly license: string
  readonly text: string
}
export declare function bundleAgent(options: { readonly entry: string; readonly directory: string; readonly root: string }): Promise<BundledPackage[]>
export declare const packageRoot: string
