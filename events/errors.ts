/**
 * The catalogue of refusals: one row a code, with its HTTP status and the CLI's exit code. Codes are part of the
 * API (SPEC section 5); adding one is a change of the contract, so it happens here and nowhere else.
 */
export const EXIT = {
  success: 0,
  general: 1,
  usage: 2,
  configuration: 3,
  connection: 4,
  authentication: 5,
  partial: 6,
  different: 7,
} as const;

interface Row {
  readonly status: number;
  readonly exit: number;
  readonly meaning: string;
}

export const ERRORS = {
  INVALID_REQUEST: {
    status: 400,
    exit: EXIT.usage,
    meaning: 'The request does not fit its schema or a rule.',
  },
  INVALID_CIDR: {
    status: 400,
    exit: EXIT.usage,
    meaning: 'A CIDR is malformed, has host bits set or mixes address families.',
  },
  UNAUTHORIZED: { status: 401, exit: EXIT.authentication, meaning: 'No valid token or client credentials.' },
  FORBIDDEN: {
    status: 403,
    exit: EXIT.authentication,
    meaning: 'The token lacks the scope, or the peer is internal.',
  },
  NOT_FOUND: { status: 404, exit: EXIT.general, meaning: 'No such resource.' },
  ALREADY_BOOTSTRAPPED: {
    status: 409,
    exit: EXIT.general,
    meaning: 'This agent belongs to a cluster already.',
  },
  ALREADY_EXISTS: { status: 409, exit: EXIT.general, meaning: 'The resource exists already.' },
  CONFLICT: { status: 409, exit: EXIT.general, meaning: 'The If-Match version is stale.' },
  CLUSTER_LOCKED: { status: 409, exit: EXIT.general, meaning: 'Another operator holds the cluster lock.' },
  NOT_BOOTSTRAPPED: {
    status: 412,
    exit: EXIT.configuration,
    meaning: 'This agent has not been bootstrapped.',
  },
  TOO_LARGE: { status: 413, exit: EXIT.usage, meaning: 'The request body is too large.' },
  LICENSE_EXPIRED: { status: 422, exit: EXIT.configuration, meaning: 'The license has expired.' },
  LICENSE_INVALID: {
    status: 422,
    exit: EXIT.configuration,
    meaning: 'The license does not verify against a trust root.',
  },
  LICENSE_MISMATCH: {
    status: 422,
    exit: EXIT.configuration,
    meaning: 'The license belongs to another customer.',
  },
  LICENSE_READ_ONLY: {
    status: 422,
    exit: EXIT.configuration,
    meaning: 'The license ran out of grace; writes are refused.',
  },
  LICENSE_SUSPENDED: {
    status: 422,
    exit: EXIT.configuration,
    meaning: 'The license is suspended; services are stopped.',
  },
  NODE_LIMIT_EXCEEDED: { status: 422, exit: EXIT.general, meaning: 'The license caps the number of nodes.' },
  SERVICE_LIMIT_EXCEEDED: {
    status: 422,
    exit: EXIT.general,
    meaning: 'The license caps the number of services.',
  },
  HANDSHAKE_FAILED: { status: 422, exit: EXIT.connection, meaning: 'The handshake with the peer failed.' },
  CANNOT_REVOKE_CURRENT: {
    status: 422,
    exit: EXIT.general,
    meaning: 'The credential in use cannot revoke itself.',
  },
  RATE_LIMITED: { status: 429, exit: EXIT.general, meaning: 'Too many requests.' },
  INTERNAL: { status: 500, exit: EXIT.general, meaning: 'A fault of the agent; the log has the details.' },
  UNAVAILABLE: { status: 503, exit: EXIT.connection, meaning: 'The agent cannot serve this now.' },
} as const satisfies Record<string, Row>;

export type ErrorCode = keyof typeof ERRORS;

/** One fault inside a refused document. */
export interface ErrorDetail {
  /** JSON pointer (RFC 6901) into the request body, or `query/<name>`. */
  readonly pointer: string;
  readonly message: string;
}

/** A refusal meant for a person: what happened, on what, why, what to do. Never carries a secret. */
export class ArcticError extends Error {
  readonly code: ErrorCode;
  readonly details: readonly ErrorDetail[];

  constructor(
    code: ErrorCode,
    message: string,
    details: readonly ErrorDetail[] = [],
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'ArcticError';
    this.code = code;
    this.details = details;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  get exit(): number {
    return ERRORS[this.code].exit;
  }
}
