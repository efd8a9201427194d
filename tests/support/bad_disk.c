/* A disk that is late or full, for a redis-server that tests preload this into: see bad_disk.py. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LATE_S = 4 }; /* Redis counts what takes more than 2 */

/* Whether the folder has a file of that name now. Whatever else was started with us is left alone. */
static int asked(const char *name) {
    const char *folder = getenv("RALLYPOINT_TEST_DISK");
    char path[4096];

    if (!folder || strcmp(program_invocation_short_name, "redis-server"))
        return 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

int fdatasync(int fd) {
    if (asked("late"))
        sleep(LATE_S);
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    struct stat about;

    if (asked("full") && !fstat(fd, &about) && S_ISREG(about.st_mode)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, data, size);
}
