// Small codecs of the session layer: base64 for storage, random ids, a token's lifetime.

export function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function randomBytes(count: number): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(count));
}

/** 128 random bits as hex, for request ids. */
export function randomId(): string {
  return Array.from(randomBytes(16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * How long a JWT lasts from its making, in ms. Both ends are the server's clock, so a device whose
 * clock is wrong still renews in time. A token that tells nothing counts as 15 minutes.
 */
export function lifetimeMs(jwt: string): number {
  try {
    const part = (jwt.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const claims = JSON.parse(atob(part)) as { exp?: number; iat?: number };
    if (claims.exp !== undefined && claims.iat !== undefined) return (claims.exp - claims.iat) * 1000;
  } catch {
    // Fall through: an opaque token is not an error.
  }
  return 15 * 60_000;
}
