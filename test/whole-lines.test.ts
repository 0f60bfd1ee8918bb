import t from 'tap'

for (const [name, text] of Object.entries({ 'a carriage return': 'a\r | b', 'one at the end': 'a\r', 'two before the end of a line': 'a\r\r\nb', 'a line separator': 'a\u2028b', 'a paragraph separator': 'a\u2029b' })) {
  t.test(`assertions after a comment with ${name} count`, async (t) => {
    const inner = t.test('inner', async (t) => {
      t.comment(text)
      t.pass('the assertion')
    })
    t.equal((await inner)?.count, 1)
  })
}
