/** The process ends after this time even if its cleanup has not finished. */
const CLEANUP_TIMEOUT_MS = 2_000

/**
 * Ends this process when its standard input closes. That happens when the process at the other end
 * is gone, however it ended.
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
  // The supervisor acts on a terminal's Ctrl-C.
  process.on('SIGINT', () => undefined)
  return { isEnding: () => ending }
}
