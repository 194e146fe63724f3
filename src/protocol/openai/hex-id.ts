/** 32 hexadecimal characters that nobody can guess, as ids have after their prefix. */
export const hexId = (): string => crypto.randomUUID().replaceAll('-', '')
