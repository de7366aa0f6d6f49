/* A faulty disk, preloaded before the C library. Calls fail as the file $DISK_FAULT says, and $DISK_LOG records the order of writes
   and flushes. Only files whose path contains $DISK_OF are affected. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

enum { WRITE = 1, FLUSH = 2, TRUNCATE = 3, UNLINK = 4 };

/* The header of a record in the log. */
struct head {
    uint32_t kind;
    uint32_t path_bytes;
    uint64_t offset;
    uint64_t bytes;
};

/* Stores the path of an open file. Returns 0 if the file is not on this disk. */
static int path_of(int file, char *path, size_t room) {
    const char *of = getenv("DISK_OF");
    char link[64];
    if (!of) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, room - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return strstr(path, of) != 0;
}

/* Returns the error that calls of this kind fail with now, or 0. */
static int fault(const char *kind) {
    const char *name = getenv("DISK_FAULT");
    char text[64] = "";
    if (!name) return 0;
    int file = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t n = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    if (n <= 0 || strncmp(text, kind, strlen(kind)) != 0) return 0;
    return strstr(text, "ENOSPC") ? ENOSPC : EIO;
}

static void note(uint32_t kind, const char *path, uint64_t offset, const void *bytes, uint64_t count) {
    static int log = -1;
    const char *name = getenv("DISK_LOG");
    if (!name) return;
    if (log < 0) log = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct head head = {kind, (uint32_t)strlen(path), offset, count};
    size_t carried = bytes ? count : 0;
    size_t total = sizeof head + head.path_bytes + carried;
    char *record = malloc(total);
    memcpy(record, &head, sizeof head);
    memcpy(record + sizeof head, path, head.path_bytes);
    if (carried) memcpy(record + sizeof head + head.path_bytes, bytes, carried);
    /* One write, so that a killed program leaves complete records and at most one torn record. */
    if (syscall(SYS_write, log, record, total) != (long)total) abort();
    free(record);
}

static ssize_t written(int file, const void *bytes, size_t count, off64_t offset) {
    char path[4096];
    if (!path_of(file, path, sizeof path)) return syscall(SYS_pwrite64, file, bytes, count, offset);
    int error = fault("write");
    if (error) {
        errno = error;
        return -1;
    }
    pthread_mutex_lock(&lock);
    ssize_t n = syscall(SYS_pwrite64, file, bytes, count, offset);
    if (n > 0) note(WRITE, path, (uint64_t)offset, bytes, (uint64_t)n);
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return n;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) { return written(file, bytes, count, offset); }
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) { return written(file, bytes, count, offset); }

ssize_t write(int file, const void *bytes, size_t count) {
    char path[4096];
    off64_t offset = (off64_t)syscall(SYS_lseek, file, 0, SEEK_CUR);
    /* Pipes and sockets have no offset. */
    if (offset < 0 || !path_of(file, path, sizeof path)) return syscall(SYS_write, file, bytes, count);
    ssize_t n = written(file, bytes, count, offset);
    if (n > 0) syscall(SYS_lseek, file, offset + n, SEEK_SET);
    return n;
}

static int flushed(int file, long call) {
    char path[4096];
    if (!path_of(file, path, sizeof path)) return (int)syscall(call, file);
    int error = fault("flush");
    if (error) {
        errno = error;
        return -1;
    }
    pthread_mutex_lock(&lock);
    note(FLUSH, path, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int file) { return flushed(file, SYS_fsync); }
int fdatasync(int file) { return flushed(file, SYS_fdatasync); }

int unlink(const char *path) {
    const char *of = getenv("DISK_OF");
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    int kept = errno;
    if (result == 0 && of && strstr(path, of)) note(UNLINK, path, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}

static int truncated(int file, off64_t length) {
    char path[4096];
    if (!path_of(file, path, sizeof path)) return (int)syscall(SYS_ftruncate, file, length);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, file, length);
    if (result == 0) note(TRUNCATE, path, (uint64_t)length, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int file, off_t length) { return truncated(file, length); }
int ftruncate64(int file, off64_t length) { return truncated(file, length); }
