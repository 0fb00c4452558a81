import { createLocalJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import type { ClientId, PeerId } from '../../events/brand.ts';
import type { Clock } from '../../events/clock.ts';
import { ArcticError } from '../../events/errors.ts';
import { type Ids, parseClientId, parsePeerId } from '../../events/ids.ts';
import type { Identity } from './contract.ts';

/** Seconds a token lives. */
export const TOKEN_SECONDS = 3_600;
/** RFC 7519 `aud`: any agent of any cluster; which cluster is settled by whose key verifies. */
export const TOKEN_AUDIENCE = 'urn:tillered:arctic';
/** Tokens travel between hosts whose clocks differ; gossip tolerates the same. */
const CLOCK_TOLERANCE_SECONDS = 60;
const MAX_TOKEN_LENGTH = 4_096;

/** A member whose tokens are accepted. */
export interface TokenIssuer {
  readonly id: PeerId;
  /** base64, 32 bytes. */
  readonly public_key: string;
}

export interface TokenClaims {
  readonly clientId: ClientId;
  readonly issuer: PeerId;
  readonly scopes: readonly string[];
  readonly tokenId: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

export interface Tokens {
  /** A signed JWT (RFC 7519, `EdDSA` of RFC 8037) for a client. */
  issue(clientId: ClientId, scopes: readonly string[]): string;
  /** Its claims, if a present member issued it and it has not expired; UNAUTHORIZED otherwise. */
  verify(token: string): Promise<TokenClaims>;
  /** RFC 7517 key set of all present members. */
  keys(): { readonly keys: readonly TokenKey[] };
}

export interface TokenKey {
  readonly kty: 'OKP';
  readonly crv: 'Ed25519';
  readonly x: string;
  readonly kid: string;
  readonly alg: 'EdDSA';
  readonly use: 'sig';
}

/**
 * Issues and verifies access tokens. `issuers` gives the members of this moment, so a token dies with the membership of
 * the peer that signed it. The signing input of a JWT starts with the base64url of `{"`, which no other message that the
 * peer key signs does (they start with `arctic v1`), so signatures cannot be carried from one use to the other.
 */
export function createTokens(deps: {
  readonly identity: Identity;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly issuers: () => readonly TokenIssuer[];
}): Tokens {
  const keys = () => ({ keys: deps.issuers().map(tokenKey) });

  return {
    keys,
    issue(clientId, scopes) {
      const iat = Math.floor(deps.clock.now() / 1_000);
      const header = { alg: 'EdDSA', typ: 'at+jwt', kid: deps.identity.peerId };
      const payload: JWTPayload = {
        iss: deps.identity.peerId,
        sub: clientId,
        aud: TOKEN_AUDIENCE,
        scope: scopes.join(' '),
        iat,
        exp: iat + TOKEN_SECONDS,
        jti: deps.ids.ulid(),
      };
      const input = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(payload))}`;
      return `${input}.${base64url(deps.identity.sign(Buffer.from(input, 'ascii')))}`;
    },

    async verify(token) {
      if (token.length > MAX_TOKEN_LENGTH) throw unauthorized('is longer than any token of this cluster');
      const key: JWTVerifyGetKey = (header, jws) => {
        if (header.alg !== 'EdDSA') throw new errors.JOSEAlgNotAllowed('only EdDSA is accepted');
        return createLocalJWKSet({ keys: keys().keys.filter((one) => one.kid === header.kid) })(header, jws);
      };
      try {
        const { payload, protectedHeader } = await jwtVerify(token, key, {
          algorithms: ['EdDSA'],
          audience: TOKEN_AUDIENCE,
          typ: 'at+jwt',
          requiredClaims: ['iss', 'sub', 'exp', 'iat', 'jti', 'scope'],
          clockTolerance: CLOCK_TOLERANCE_SECONDS,
          currentDate: new Date(deps.clock.now()),
        });
        return claimsOf(payload, protectedHeader.kid);
      } catch (error) {
        if (error instanceof ArcticError) throw error;
        throw unauthorized(reasonOf(error));
      }
    },
  };
}

function claimsOf(payload: JWTPayload, kid: string | undefined): TokenClaims {
  const issuer = parsePeerId(payload.iss);
  const clientId = parseClientId(payload.sub);
  const scope = payload['scope'];
  if (issuer === undefined || issuer !== kid)
    throw unauthorized('names another issuer than the key it is signed with');
  if (
    clientId === undefined ||
    typeof scope !== 'string' ||
    payload.exp === undefined ||
    payload.jti === undefined
  ) {
    throw unauthorized('lacks a claim');
  }
  return { clientId, issuer, scopes: scope.split(' '), tokenId: payload.jti, expiresAt: payload.exp * 1_000 };
}

export const tokenKey = (issuer: TokenIssuer): TokenKey => ({
  kty: 'OKP',
  crv: 'Ed25519',
  x: Buffer.from(issuer.public_key, 'base64').toString('base64url'),
  kid: issuer.id,
  alg: 'EdDSA',
  use: 'sig',
});

const base64url = (data: string | Uint8Array): string => Buffer.from(data).toString('base64url');

const unauthorized = (why: string) =>
  new ArcticError('UNAUTHORIZED', `the access token ${why}; get a new one from /v1/oauth/token.`);

function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'has expired';
  if (error instanceof errors.JWKSNoMatchingKey) return 'was not issued by a member of this cluster';
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'has a wrong signature';
  if (error instanceof errors.JOSEAlgNotAllowed) return 'is not signed with EdDSA';
  if (error instanceof errors.JWTClaimValidationFailed) return `has a wrong ${error.claim} claim`;
  return 'is malformed';
}
