/*
 * Faults for the real binary: a library that is loaded before the C library and stands in its place for the calls
 * that change files. It counts those that concern files below one directory, and at the chosen one kills the
 * process or lets the call fail. See faults.rs.
 *
 * FAULT_DIR     the directory; nothing is done without it
 * FAULT_AT      the number of the call, from 1 on
 * FAULT_KIND    kill: the process dies before the call.  half: half of a write is done, and the process dies.
 *               enospc, eio: the call fails.  short: half of a write is done, and the rest fails with ENOSPC.
 *               erofs: all calls fail, and files open for reading only, as if mounted so.
 *               count: nothing fails; every call from FAULT_AT on is told.
 * FAULT_EVER    set: every later call fails as well (enospc, eio)
 * FAULT_SWITCH  a file: as long as it does not exist, nothing is counted and nothing fails
 * FAULT_TOLD    a file that is written when the fault comes: what the call was
 * FAULT_CLOCK   a file with seconds that are added to the wall clock, read at every look at it
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { COUNT, KILL, HALF, ENOSPC_, EIO_, SHORT, EROFS_ };

static const char *dir, *told, *gate, *clock_file;
static size_t dir_length;
static long at;
static enum kind kind;
static int ever;
static atomic_long calls;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAULT_KIND");
    static const char *names[] = {"count", "kill", "half", "enospc", "eio", "short", "erofs"};
    for (int i = 0; text && i < 7; i++)
        if (strcmp(text, names[i]) == 0) kind = (enum kind)i;
    dir = getenv("FAULT_DIR");
    dir_length = dir ? strlen(dir) : 0;
    told = getenv("FAULT_TOLD");
    gate = getenv("FAULT_SWITCH");
    clock_file = getenv("FAULT_CLOCK");
    at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
    ever = getenv("FAULT_EVER") != NULL;
}

static int below(const char *path) {
    return dir && path && strncmp(path, dir, dir_length) == 0 &&
           (path[dir_length] == '/' || path[dir_length] == 0);
}

/* The path of an open file, and whether it is one of ours. */
static int ours(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static void tell(const char *call, const char *path, long number) {
    if (!told) return;
    char line[PATH_MAX + 128];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether the fault comes at this call. The process may end here. */
static int strikes(const char *call, const char *path) {
    if (!at || (gate && syscall(SYS_faccessat, AT_FDCWD, gate, F_OK) != 0)) return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (number != at && !((ever || kind == COUNT) && number > at)) return 0;
    if (number == at || kind == COUNT) tell(call, path, number);
    if (kind == KILL) die();
    return 1;
}

/* For calls that are no writes: whether the call fails now. */
static int fails(const char *call, const char *path) {
    if (!strikes(call, path)) return 0;
    if (kind == ENOSPC_ || kind == SHORT) {
        /* Taking something away needs no room. */
        if (strncmp(call, "unlink", 6) == 0) return 0;
        errno = ENOSPC;
        return 1;
    }
    if (kind == EIO_ || kind == EROFS_) {
        errno = kind == EIO_ ? EIO : EROFS;
        return 1;
    }
    /* Nothing of this call can be half done: the next one is it, or a server under load would live for ever. */
    if (kind == HALF && gate) atomic_store(&calls, at - 1);
    return 0;
}

/* A call that is done or not. */
#define SIMPLE(condition, text, path, call)               \
    do {                                                  \
        if ((condition) && fails(text, path)) return -1;  \
        return call;                                      \
    } while (0)

/* A write: may be half done. */
#define WRITE(text, fd, count, whole, half)                                     \
    do {                                                                        \
        char path[PATH_MAX];                                                    \
        if (ours(fd, path) && strikes(text, path)) {                            \
            if (kind == ENOSPC_ || kind == EIO_ || kind == EROFS_) {            \
                errno = kind == EIO_ ? EIO : kind == EROFS_ ? EROFS : ENOSPC;   \
                return -1;                                                      \
            }                                                                   \
            if (kind == HALF && (count) > 1) { half; die(); }                   \
            if (kind == SHORT) {                                                \
                /* The next one finds no room. */                               \
                atomic_store(&calls, at - 1);                                   \
                kind = ENOSPC_;                                                 \
                if ((count) > 1) return half;                                   \
            }                                                                   \
            if (kind == HALF) { whole; die(); }                                 \
        }                                                                       \
        return whole;                                                           \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t count) {
    WRITE("write", fd, count, syscall(SYS_write, fd, bytes, count), syscall(SYS_write, fd, bytes, count / 2));
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    WRITE("pwrite", fd, count, syscall(SYS_pwrite64, fd, bytes, count, offset),
          syscall(SYS_pwrite64, fd, bytes, count / 2, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return pwrite(fd, bytes, count, offset);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    WRITE("writev", fd, count, syscall(SYS_writev, fd, pieces, count),
          syscall(SYS_writev, fd, pieces, count / 2));
}

/* A sync that is not to fail is left out: nothing here pulls a plug, and the tests are faster by it. */
int fsync(int fd) {
    char path[PATH_MAX];
    SIMPLE(ours(fd, path), "fsync", path, (dir ? 0 : (int)syscall(SYS_fsync, fd)));
}

int fdatasync(int fd) {
    char path[PATH_MAX];
    SIMPLE(ours(fd, path), "fdatasync", path, (dir ? 0 : (int)syscall(SYS_fdatasync, fd)));
}

int ftruncate(int fd, off_t length) {
    char path[PATH_MAX];
    SIMPLE(ours(fd, path), "ftruncate", path, (int)syscall(SYS_ftruncate, fd, length));
}

int ftruncate64(int fd, off64_t length) {
    return ftruncate(fd, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
    char path[PATH_MAX];
    SIMPLE(ours(fd, path), "fallocate", path, (int)syscall(SYS_fallocate, fd, mode, offset, length));
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    return fallocate(fd, mode, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length) {
    return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    return posix_fallocate(fd, offset, length);
}

int rename(const char *from, const char *to) {
    SIMPLE(below(to), "rename", to, (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int renameat(int a, const char *from, int b, const char *to) {
    SIMPLE(below(to), "rename", to, (int)syscall(SYS_renameat2, a, from, b, to, 0));
}

int link(const char *from, const char *to) {
    SIMPLE(below(to), "link", to, (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    SIMPLE(below(to), "link", to, (int)syscall(SYS_linkat, a, from, b, to, flags));
}

int unlink(const char *path) {
    SIMPLE(below(path), "unlink", path, (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int unlinkat(int a, const char *path, int flags) {
    SIMPLE(below(path), "unlink", path, (int)syscall(SYS_unlinkat, a, path, flags));
}

int mkdir(const char *path, mode_t mode) {
    SIMPLE(below(path), "mkdir", path, (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

/* Only if it makes a file: the others take no room. */
static int making(const char *path, int flags) {
    if (kind == EROFS_) return (flags & O_ACCMODE) != O_RDONLY && below(path);
    return (flags & O_CREAT) && below(path) && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
}

static int open_at(int a, const char *path, int flags, mode_t mode) {
    SIMPLE(making(path, flags), "open", path, (int)syscall(SYS_openat, a, path, flags, mode));
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(directory)                     \
    va_list rest;                           \
    va_start(rest, flags);                  \
    mode_t mode = mode_of(flags, rest);     \
    va_end(rest);                           \
    return open_at(directory, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN(AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPEN(AT_FDCWD); }
int openat(int directory, const char *path, int flags, ...) { OPEN(directory); }
int openat64(int directory, const char *path, int flags, ...) { OPEN(directory); }

static long shift(void) {
    if (!clock_file) return 0;
    char text[32] = {0};
    int fd = (int)syscall(SYS_openat, AT_FDCWD, clock_file, O_RDONLY, 0);
    if (fd < 0) return 0;
    syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += shift();
        if (now->tv_sec < 0) now->tv_sec = 0;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec time;
    int result = clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
