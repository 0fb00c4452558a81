/*
 * A disk that misbehaves, between one process and the C library (LD_PRELOAD). Only files below SHIM_DIR are touched.
 *
 *   SHIM_REPORT=FILE            at exit, "CALL COUNT" a line: how many points there are to try
 *   SHIM_FAIL=CALL:N:ERRNO      the N-th CALL fails with ERRNO; ERRNO "short" writes half instead; N+ fails from there on
 *   SHIM_KILL=N                 kill -9 at the N-th write, sync, truncation, rename or removal, half of a write done
 *   SHIM_POWER=N:SEED           the same, and what was not synced by then is kept, torn or lost at random
 *
 * A write is lost by sectors of 512 bytes. A file that was removed stays removed; names are synced with their directory,
 * and a file whose directory was not synced after it was made may be lost as a whole.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum call { OPEN, PWRITE, WRITE, FSYNC, FTRUNCATE, UNLINK, RENAME, MMAP, PREAD, CALLS };
static const char *const NAMES[CALLS] = { "open", "pwrite", "write", "fsync", "ftruncate", "unlink", "rename", "mmap", "pread" };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *dir;
static long counts[CALLS];
static long mutations;
static int fail_call = -1, fail_errno, fail_short, fail_on;
static long fail_at, kill_at, power_at;
static uint64_t seed;
static const char *report;

#define REAL(name, type) \
  static __typeof__(type) real; \
  if (!real) real = (__typeof__(type))dlsym(RTLD_NEXT, name)

/* What was written and not synced yet: enough to go back to the synced state, and to write any part again. */
struct change {
  struct change *next;
  dev_t dev;
  ino_t ino;
  char path[256];
  int truncation;
  int creation;
  off_t offset;
  off_t old_size;
  size_t old_length, new_length;
  unsigned char *old_bytes, *new_bytes;
};
static struct change *newest;

static uint64_t draw(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static int errno_of(const char *name) {
  if (!strcmp(name, "ENOSPC")) return ENOSPC;
  if (!strcmp(name, "EIO")) return EIO;
  if (!strcmp(name, "EINTR")) return EINTR;
  if (!strcmp(name, "EROFS")) return EROFS;
  if (!strcmp(name, "EDQUOT")) return EDQUOT;
  if (!strcmp(name, "EMFILE")) return EMFILE;
  if (!strcmp(name, "EACCES")) return EACCES;
  if (!strcmp(name, "ENOMEM")) return ENOMEM;
  return EIO;
}

__attribute__((constructor)) static void begin(void) {
  dir = getenv("SHIM_DIR");
  report = getenv("SHIM_REPORT");
  const char *fail = getenv("SHIM_FAIL");
  const char *killed = getenv("SHIM_KILL");
  const char *power = getenv("SHIM_POWER");
  if (fail) {
    char name[32], number[32], error[32];
    if (sscanf(fail, "%31[^:]:%31[^:]:%31s", name, number, error) == 3) {
      for (int i = 0; i < CALLS; i += 1)
        if (!strcmp(name, NAMES[i])) fail_call = i;
      fail_at = atol(number);
      fail_on = strchr(number, '+') != NULL;
      fail_short = !strcmp(error, "short");
      fail_errno = errno_of(error);
    }
  }
  if (killed) kill_at = atol(killed);
  if (power) {
    unsigned long long given = 0;
    sscanf(power, "%ld:%llu", &power_at, &given);
    seed = given * 2654435761u + 88172645463325252ull;
  }
  /* Child processes are none of our business. */
  unsetenv("LD_PRELOAD");
}

__attribute__((destructor)) static void end(void) {
  if (!report) return;
  FILE *out = fopen(report, "w");
  if (!out) return;
  for (int i = 0; i < CALLS; i += 1) fprintf(out, "%s %ld\n", NAMES[i], counts[i]);
  fprintf(out, "mutation %ld\n", mutations);
  fclose(out);
}

static int ours(const char *path) { return dir && path && !strncmp(path, dir, strlen(dir)); }

static int path_of(int fd, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return ours(path);
}

/* 0: go on; 1: fail with errno set; 2: do half. */
static int turn(enum call call) {
  pthread_mutex_lock(&lock);
  long n = ++counts[call];
  int hit = call == (enum call)fail_call && fail_at > 0 && (n == fail_at || (fail_on && n > fail_at));
  pthread_mutex_unlock(&lock);
  if (!hit) return 0;
  if (fail_short) return 2;
  errno = fail_errno;
  return 1;
}

static ssize_t real_pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  REAL("pwrite64", ssize_t (*)(int, const void *, size_t, off_t));
  return real(fd, bytes, length, offset);
}
static ssize_t real_pread(int fd, void *bytes, size_t length, off_t offset) {
  REAL("pread64", ssize_t (*)(int, void *, size_t, off_t));
  return real(fd, bytes, length, offset);
}
static int real_ftruncate(int fd, off_t size) {
  REAL("ftruncate64", int (*)(int, off_t));
  return real(fd, size);
}
static int real_unlink(const char *path) {
  REAL("unlink", int (*)(const char *));
  return real(path);
}
static int real_open(const char *path, int flags, mode_t mode) {
  REAL("open64", int (*)(const char *, int, ...));
  return real(path, flags, mode);
}

static void remember(int fd, const char *path, off_t offset, const void *bytes, size_t length, int truncation) {
  struct stat status;
  if (!power_at || fstat(fd, &status)) return;
  struct change *change = calloc(1, sizeof *change);
  change->dev = status.st_dev;
  change->ino = status.st_ino;
  snprintf(change->path, sizeof change->path, "%s", path);
  change->truncation = truncation;
  change->offset = offset;
  change->old_size = status.st_size;
  off_t end = truncation ? status.st_size : offset + (off_t)length;
  if (end > status.st_size) end = status.st_size;
  if (end > offset) {
    change->old_length = (size_t)(end - offset);
    change->old_bytes = malloc(change->old_length);
    /* The descriptor may be write-only. */
    int reading = real_open(path, O_RDONLY, 0);
    if (reading >= 0) {
      if (real_pread(reading, change->old_bytes, change->old_length, offset) < 0) change->old_length = 0;
      close(reading);
    }
  }
  if (!truncation) {
    change->new_length = length;
    change->new_bytes = malloc(length);
    memcpy(change->new_bytes, bytes, length);
  }
  change->next = newest;
  newest = change;
}

static void created(const char *path) {
  if (!power_at) return;
  struct change *change = calloc(1, sizeof *change);
  snprintf(change->path, sizeof change->path, "%s", path);
  change->creation = 1;
  change->next = newest;
  newest = change;
}

static void synced(int fd) {
  struct stat status;
  if (!power_at || fstat(fd, &status)) return;
  int directory = S_ISDIR(status.st_mode);
  for (struct change **at = &newest; *at;) {
    struct change *change = *at;
    int done = directory ? change->creation
                         : !change->creation && change->dev == status.st_dev && change->ino == status.st_ino;
    if (done) *at = change->next;
    else at = &change->next;
  }
}

/* Back to what was synced, then part of the rest again, oldest first. */
static void cut(void) {
  struct change *oldest = NULL;
  for (struct change *change = newest, *next; change; change = next) {
    next = change->next;
    if (!change->creation) {
      int fd = real_open(change->path, O_RDWR, 0);
      if (fd >= 0) {
        if (change->old_length) real_pwrite(fd, change->old_bytes, change->old_length, change->offset);
        real_ftruncate(fd, change->old_size);
        close(fd);
      }
    }
    change->next = oldest;
    oldest = change;
  }
  for (struct change *change = oldest; change; change = change->next) {
    uint64_t fate = draw() % 4;
    if (change->creation) {
      if (fate == 0) real_unlink(change->path);
      continue;
    }
    if (fate == 0) continue;
    int fd = real_open(change->path, O_RDWR, 0);
    if (fd < 0) continue;
    if (change->truncation) {
      real_ftruncate(fd, change->offset);
    } else {
      for (size_t at = 0; at < change->new_length;) {
        size_t sector = 512 - (size_t)((change->offset + (off_t)at) % 512);
        if (sector > change->new_length - at) sector = change->new_length - at;
        if (fate > 1 || draw() % 2) real_pwrite(fd, change->new_bytes + at, sector, change->offset + (off_t)at);
        at += sector;
      }
    }
    close(fd);
  }
}

/* Before a change of the disk; `half` does the first half of it. Does not return when it is the last one. */
static void mutation(int fd, const void *bytes, size_t length, off_t offset) {
  pthread_mutex_lock(&lock);
  long n = ++mutations;
  if ((kill_at && n >= kill_at) || (power_at && n >= power_at)) {
    if (bytes && length > 1) real_pwrite(fd, bytes, length / 2, offset);
    if (power_at) cut();
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  pthread_mutex_unlock(&lock);
}

static ssize_t do_pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  char path[PATH_MAX];
  if (!dir || !path_of(fd, path, sizeof path)) return real_pwrite(fd, bytes, length, offset);
  int what = turn(PWRITE);
  if (what == 1) return -1;
  pthread_mutex_lock(&lock);
  remember(fd, path, offset, bytes, length, 0);
  pthread_mutex_unlock(&lock);
  mutation(fd, bytes, length, offset);
  return real_pwrite(fd, bytes, what == 2 && length > 1 ? length / 2 : length, offset);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return do_pwrite(fd, bytes, length, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) { return do_pwrite(fd, bytes, length, offset); }

ssize_t write(int fd, const void *bytes, size_t length) {
  REAL("write", ssize_t (*)(int, const void *, size_t));
  char path[PATH_MAX];
  if (!dir || !path_of(fd, path, sizeof path)) return real(fd, bytes, length);
  int what = turn(WRITE);
  if (what == 1) return -1;
  off_t offset = lseek(fd, 0, SEEK_CUR);
  pthread_mutex_lock(&lock);
  remember(fd, path, offset, bytes, length, 0);
  pthread_mutex_unlock(&lock);
  mutation(fd, bytes, length, offset);
  return real(fd, bytes, what == 2 && length > 1 ? length / 2 : length);
}

static int do_sync(int fd, int (*real)(int)) {
  char path[PATH_MAX];
  if (!dir || !path_of(fd, path, sizeof path)) return real(fd);
  if (turn(FSYNC)) return -1;
  mutation(-1, NULL, 0, 0);
  int result = real(fd);
  pthread_mutex_lock(&lock);
  if (!result) synced(fd);
  pthread_mutex_unlock(&lock);
  return result;
}
int fsync(int fd) {
  REAL("fsync", int (*)(int));
  return do_sync(fd, real);
}
int fdatasync(int fd) {
  REAL("fdatasync", int (*)(int));
  return do_sync(fd, real);
}

static int do_truncate(int fd, off_t size) {
  char path[PATH_MAX];
  if (!dir || !path_of(fd, path, sizeof path)) return real_ftruncate(fd, size);
  if (turn(FTRUNCATE)) return -1;
  pthread_mutex_lock(&lock);
  remember(fd, path, size, NULL, 0, 1);
  pthread_mutex_unlock(&lock);
  mutation(-1, NULL, 0, 0);
  return real_ftruncate(fd, size);
}
int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }
int ftruncate64(int fd, off_t size) { return do_truncate(fd, size); }

static int do_open(const char *path, int flags, mode_t mode) {
  if (!ours(path)) return real_open(path, flags, mode);
  if (turn(OPEN)) return -1;
  int fresh = (flags & O_CREAT) && access(path, F_OK);
  int fd = real_open(path, flags, mode);
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fresh) created(path);
  pthread_mutex_unlock(&lock);
  return fd;
}
#define MODE(flags, mode) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }
int open(const char *path, int flags, ...) {
  MODE(flags, mode)
  return do_open(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  MODE(flags, mode)
  return do_open(path, flags, mode);
}

int unlink(const char *path) {
  REAL("unlink", int (*)(const char *));
  if (!ours(path)) return real(path);
  if (turn(UNLINK)) return -1;
  mutation(-1, NULL, 0, 0);
  return real(path);
}
int rename(const char *from, const char *to) {
  REAL("rename", int (*)(const char *, const char *));
  if (!ours(from)) return real(from, to);
  if (turn(RENAME)) return -1;
  mutation(-1, NULL, 0, 0);
  return real(from, to);
}

static void *do_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
  REAL("mmap64", void *(*)(void *, size_t, int, int, int, off_t));
  char path[PATH_MAX];
  if (!dir || fd < 0 || !path_of(fd, path, sizeof path)) return real(at, length, protection, flags, fd, offset);
  if (turn(MMAP)) return MAP_FAILED;
  return real(at, length, protection, flags, fd, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
  return do_mmap(at, length, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
  return do_mmap(at, length, protection, flags, fd, offset);
}

static ssize_t do_pread(int fd, void *bytes, size_t length, off_t offset) {
  char path[PATH_MAX];
  if (!dir || !path_of(fd, path, sizeof path)) return real_pread(fd, bytes, length, offset);
  if (turn(PREAD) == 1) return -1;
  return real_pread(fd, bytes, length, offset);
}
ssize_t pread(int fd, void *bytes, size_t length, off_t offset) { return do_pread(fd, bytes, length, offset); }
ssize_t pread64(int fd, void *bytes, size_t length, off_t offset) { return do_pread(fd, bytes, length, offset); }
