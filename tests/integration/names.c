// What names stand for, to a process. Loaded before the C library.
//
// NAMES names a file with a line for each: the name and its addresses, between spaces. Who is not in it is as ever.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    look_up *real = (look_up *)dlsym(RTLD_NEXT, "getaddrinfo");
    FILE *names = fopen(getenv("NAMES"), "r");
    if (!names) abort();
    char line[1024];
    int is_there = 0;
    while (!is_there && fgets(line, sizeof line, names)) {
        char *rest = line;
        char *own = strsep(&rest, " \n");
        if (!name || strcmp(own, name) != 0) continue;
        is_there = 1;
        char *address;
        struct addrinfo **end = found;
        *found = NULL;
        while ((address = strsep(&rest, " \n"))) {
            if (*address == 0) continue;
            int failure = real(address, service, hints, end);
            if (failure) abort();
            while (*end) end = &(*end)->ai_next;
        }
    }
    fclose(names);
    if (!is_there) return real(name, service, hints, found);
    return *found ? 0 : EAI_NONAME;
}
