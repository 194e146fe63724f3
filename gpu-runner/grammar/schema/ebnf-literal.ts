/** Writes a text as an EBNF literal. */
export function literal(text: string): string {
  const chars = Array.from(text, (char) => {
    if (/^[\w ,.:;/+*={}[\]()<>-]$/.test(char)) return char
    const code = char.codePointAt(0)!.toString(16)
    return code.length <= 4 ? `\\u${code.padStart(4, '0')}` : `\\U${code.padStart(8, '0')}`
  })
  return `"${chars.join('')}"`
}
