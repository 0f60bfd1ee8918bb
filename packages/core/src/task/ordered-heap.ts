/** What a heap needs of its items: the place it keeps them at. An item is in at most one heap at a time. */
export interface HeapItem {
  /** Index in the heap it is in; -1 when it is in none. Written by the heap alone. */
  slot: number
}

/** A binary heap that can also remove any item it holds: add, remove and take cost the logarithm of its size. */
export class OrderedHeap<Item extends HeapItem> {
  private readonly items: Item[] = []

  /** `isBefore` must be a strict total order, or the order of decisions would depend on history. */
  constructor(private readonly isBefore: (left: Item, right: Item) => boolean) {}

  get size(): number {
    return this.items.length
  }

  /** The first item; undefined when empty. */
  peek(): Item | undefined {
    return this.items[0]
  }

  /** All items, in no useful order. */
  values(): readonly Item[] {
    return this.items
  }

  /** Puts the item in. It must be in no heap. */
  add(item: Item): void {
    this.items.push(item)
    this.rise(this.items.length - 1, item)
  }

  /** Takes the item out; false when this heap does not hold it. */
  remove(item: Item): boolean {
    const at = item.slot
    if (at < 0 || this.items[at] !== item) return false
    const last = this.items.pop() as Item
    item.slot = -1
    if (last === item) return true
    this.rise(at, last)
    this.sink(last.slot, last)
    return true
  }

  /** Takes everything out. */
  clear(): void {
    for (const item of this.items) item.slot = -1
    this.items.length = 0
  }

  /** The first items in order for which `accept` holds, at most `count`, without taking them out. Stops at the first item for which it does not hold. */
  first(count: number, accept: (item: Item) => boolean = () => true): Item[] {
    const found: Item[] = []
    // Places whose item may be the next, the first of them at the root: a heap over this heap.
    const frontier = this.items.length > 0 ? [0] : []
    while (found.length < count && frontier.length > 0) {
      const at = this.takeFirst(frontier)
      const item = this.items[at] as Item
      if (!accept(item)) break
      found.push(item)
      for (const child of [2 * at + 1, 2 * at + 2]) if (child < this.items.length) this.addPlace(frontier, child)
    }
    return found
  }

  private comesBefore(left: number, right: number): boolean {
    return this.isBefore(this.items[left] as Item, this.items[right] as Item)
  }

  private addPlace(frontier: number[], place: number): void {
    let at = frontier.length
    frontier.push(place)
    while (at > 0) {
      const above = (at - 1) >> 1
      if (!this.comesBefore(place, frontier[above] as number)) break
      frontier[at] = frontier[above] as number
      at = above
    }
    frontier[at] = place
  }

  private takeFirst(frontier: number[]): number {
    const first = frontier[0] as number
    const last = frontier.pop() as number
    if (frontier.length === 0) return first
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= frontier.length) break
      if (below + 1 < frontier.length && this.comesBefore(frontier[below + 1] as number, frontier[below] as number)) below += 1
      if (!this.comesBefore(frontier[below] as number, last)) break
      frontier[at] = frontier[below] as number
      at = below
    }
    frontier[at] = last
    return first
  }

  private rise(from: number, item: Item): void {
    let at = from
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = this.items[above] as Item
      if (!this.isBefore(item, parent)) break
      this.place(at, parent)
      at = above
    }
    this.place(at, item)
  }

  private sink(from: number, item: Item): void {
    let at = from
    for (;;) {
      let below = 2 * at + 1
      if (below >= this.items.length) break
      if (below + 1 < this.items.length && this.isBefore(this.items[below + 1] as Item, this.items[below] as Item)) below += 1
      const child = this.items[below] as Item
      if (!this.isBefore(child, item)) break
      this.place(at, child)
      at = below
    }
    this.place(at, item)
  }

  private place(at: number, item: Item): void {
    this.items[at] = item
    item.slot = at
  }
}
