/** A clean end may take this long; then the process ends anyway. */
const CLEANUP_TIMEOUT_MS = 2_000

/**
 * Ends this process when standard input closes, which it does when the process at its other end is
 * gone, by whatever signal.
 */
export function endWithStdin(cleanup: () => Promise<void>): { readonly isEnding: () => boolean } {
  let ending = false
  const end = (): void => {
    if (ending) return
    ending = true
    setTimeout(() => process.exit(0), CLEANUP_TIMEOUT_MS)
    cleanup()
      .catch((error: unknown) => {
        console.error(error)
      })
      .finally(() => process.exit(0))
  }
  process.stdin.on('end', end)
  process.stdin.on('close', end)
  process.stdin.on('error', end)
  process.stdin.resume()
  process.on('SIGTERM', end)
  // A terminal's Ctrl-C is the supervisor's to act on.
  process.on('SIGINT', () => undefined)
  return { isEnding: () => ending }
}
