/* S3 server that discards bodies, for benchmarks/sink.py: as little CPU as possible on the client's own cores.

Puts above 64 KiB, parts and multipart uploads are received, counted and discarded; without TLS, the kernel discards the
body. Smaller objects, such as a job's record, are kept with an ETag and changed conditionally. Listings are empty. Every
response is delayed by the round trip. `GET /__counts` returns the requests and bytes since the last call.

Usage: sink ROUND_TRIP_MS [CERTIFICATE KEY]. It prints the port and runs until stdin is closed. sink.py compiles it with
`-lssl -lcrypto`.
*/
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 1 << 16, PIECE = 1 << 18, STACK = 1 << 18, KEPT = 1 << 16 };

static atomic_llong requests, received;
static long round_trip_us;
static SSL_CTX *tls;

typedef struct {
    int sock;
    SSL *ssl;
    size_t held; /* bytes in buffer that are not consumed yet */
    char buffer[HEAD];
    char *piece;
} Conn;

static long take_some(Conn *c, char *into, size_t most) {
    return c->ssl ? SSL_read(c->ssl, into, (int)most) : recv(c->sock, into, most, 0);
}

static int say(Conn *c, const char *text, size_t length) {
    while (length) {
        long sent = c->ssl ? SSL_write(c->ssl, text, (int)length) : send(c->sock, text, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return 0;
        text += sent;
        length -= (size_t)sent;
    }
    return 1;
}

static void drop(Conn *c, size_t count) {
    memmove(c->buffer, c->buffer + count, c->held - count);
    c->held -= count;
    c->buffer[c->held] = 0;
}

/* Discard *length* bytes of a body. */
static int swallow(Conn *c, long long length) {
    size_t here = (long long)c->held < length ? c->held : (size_t)length;
    drop(c, here);
    for (length -= (long long)here; length > 0;) {
        size_t most = length < PIECE ? (size_t)length : PIECE;
        long got = c->ssl ? SSL_read(c->ssl, c->piece, (int)most) : recv(c->sock, c->piece, most, MSG_TRUNC);
        if (got <= 0)
            return 0;
        length -= got;
    }
    return 1;
}

/* Receive until the buffer contains *end*; return the position after it, or NULL if the connection ends. */
static char *until(Conn *c, const char *end) {
    char *found;
    while (!(found = strstr(c->buffer, end))) {
        long got = c->held < HEAD - 1 ? take_some(c, c->buffer + c->held, HEAD - 1 - c->held) : 0;
        if (got <= 0)
            return NULL;
        c->held += (size_t)got;
        c->buffer[c->held] = 0;
    }
    return found + strlen(end);
}

static long long swallow_chunks(Conn *c) {
    long long whole = 0, size;
    do {
        char *end = until(c, "\r\n");
        if (!end)
            return -1;
        size = strtoll(c->buffer, NULL, 16);
        if (!size)
            break;
        drop(c, (size_t)(end - c->buffer));
        if (!swallow(c, size + 2))
            return -1;
        whole += size;
    } while (size);
    for (char *end; (end = until(c, "\r\n"));) { /* trailers, up to an empty line */
        int last = end - c->buffer == 2;
        drop(c, (size_t)(end - c->buffer));
        if (last)
            return whole;
    }
    return -1;
}

static const char *value_of(const char *head, const char *name) {
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, strlen(name)) && line[2 + strlen(name)] == ':')
            return line + 3 + strlen(name) + strspn(line + 3 + strlen(name), " ");
    return NULL;
}

typedef struct Object {
    char *path, *body;
    size_t size;
    unsigned version;
    time_t written;
    struct Object *next;
} Object;

static Object *objects;
static unsigned versions;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Return the link to the object, or the end of the list. */
static Object **place_of(const char *path) {
    Object **at = &objects;
    while (*at && strcmp((*at)->path, path))
        at = &(*at)->next;
    return at;
}

static void forget(Object **at) {
    Object *gone = *at;
    if (!gone)
        return;
    *at = gone->next;
    free(gone->path);
    free(gone->body);
    free(gone);
}

static int say_object(Conn *c, int status, const char *said, const Object *it, int with_body) {
    char text[1024], date[64], written[64];
    time_t now = time(NULL), then = it ? it->written : now;
    struct tm parts;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &parts));
    strftime(written, sizeof written, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&then, &parts));
    size_t size = it && with_body ? it->size : strlen(said);
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %d OK\r\nContent-Length: %zu\r\nETag: \"%032x\"\r\nDate: %s\r\n"
                          "Last-Modified: %s\r\n\r\n",
                          status, size, it ? it->version : 0, date, written);
    return say(c, text, (size_t)length) && say(c, it && with_body ? it->body : said, size);
}

/* Store a small body if the conditions hold. */
static int keep(Conn *c, const char *head, const char *path, size_t size) {
    char *body = malloc(size + 1), expected[64];
    const char *match = value_of(head, "If-Match");
    size_t have = c->held < size ? c->held : size;
    memcpy(body, c->buffer, have);
    drop(c, have);
    for (long got; have < size; have += (size_t)got)
        if ((got = take_some(c, body + have, size - have)) <= 0) {
            free(body);
            return 0;
        }
    usleep((useconds_t)round_trip_us);
    pthread_mutex_lock(&lock);
    Object **at = place_of(path), *it = *at;
    if (it)
        snprintf(expected, sizeof expected, "\"%032x\"", it->version);
    int refused = (it && value_of(head, "If-None-Match")) ||
                  (match && (!it || strncmp(match, expected, strlen(expected))));
    if (refused)
        free(body);
    else {
        forget(at);
        it = calloc(1, sizeof *it);
        *it = (Object){strdup(path), body, size, ++versions, time(NULL), objects};
        objects = it;
    }
    int done = refused ? say_object(c, 412, "<Error><Code>PreconditionFailed</Code></Error>", NULL, 0)
                       : say_object(c, 200, "", it, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

static int give(Conn *c, const char *method, const char *path) {
    pthread_mutex_lock(&lock);
    Object *it = *place_of(path);
    int done = it ? say_object(c, 200, "", it, !strcmp(method, "GET"))
                  : say_object(c, 404, "<Error><Code>NoSuchKey</Code></Error>", NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

static int reply(Conn *c, const char *method, const char *target) {
    char body[256] = "", text[1024];
    const char *query = strchr(target, '?');
    int is_read = !strcmp(method, "GET") || !strcmp(method, "HEAD");
    if (!strcmp(target, "/__counts"))
        snprintf(body, sizeof body, "{\"requests\": %lld, \"received\": %lld}", atomic_exchange(&requests, 0),
                 atomic_exchange(&received, 0));
    else if (is_read && query && strstr(query, "list-type"))
        strcpy(body, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>");
    else if (is_read)
        return give(c, method, target);
    else if (query && strstr(query, "uploadId") && !strcmp(method, "POST"))
        strcpy(body, "<CompleteMultipartUploadResult><ETag>\"0\"</ETag></CompleteMultipartUploadResult>");
    else if (query && strstr(query, "uploads"))
        strcpy(body, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
    else if (query && strstr(query, "delete"))
        strcpy(body, "<DeleteResult/>");
    if (!strcmp(method, "DELETE")) {
        pthread_mutex_lock(&lock);
        forget(place_of(target));
        pthread_mutex_unlock(&lock);
    }
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nETag: \"00000000000000000000000000000000\"\r\n"
                          "Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n\r\n%s",
                          strlen(body), strcmp(method, "HEAD") ? body : "");
    return say(c, text, (size_t)length);
}

static int answer(Conn *c) {
    char head[HEAD], method[16], target[8192];
    char *end = until(c, "\r\n\r\n");
    if (!end)
        return 0;
    size_t size = (size_t)(end - c->buffer);
    memcpy(head, c->buffer, size);
    head[size - 2] = 0;
    drop(c, size);
    if (sscanf(head, "%15s %8191s", method, target) != 2)
        return 0;
    if (value_of(head, "Expect") && !say(c, "HTTP/1.1 100 Continue\r\n\r\n", 25))
        return 0;
    const char *length = value_of(head, "Content-Length"), *coding = value_of(head, "Transfer-Encoding");
    long long bytes = length ? atoll(length) : 0;
    if (coding && !strncasecmp(coding, "chunked", 7)) {
        if ((bytes = swallow_chunks(c)) < 0)
            return 0;
    } else if (!strcmp(method, "PUT") && bytes <= KEPT && !strchr(target, '?')) {
        atomic_fetch_add(&requests, 1);
        atomic_fetch_add(&received, bytes);
        return keep(c, head, target, (size_t)bytes);
    } else if (!swallow(c, bytes))
        return 0;
    if (strcmp(target, "/__counts")) {
        atomic_fetch_add(&requests, 1);
        atomic_fetch_add(&received, bytes);
        if (round_trip_us)
            usleep((useconds_t)round_trip_us);
    }
    return reply(c, method, target);
}

static void *serve(void *given) {
    Conn *c = given;
    c->piece = malloc(PIECE);
    if (!c->ssl || SSL_accept(c->ssl) == 1)
        while (answer(c))
            ;
    if (c->ssl)
        SSL_free(c->ssl);
    close(c->sock);
    free(c->piece);
    free(c);
    return NULL;
}

static void *accept_all(void *given) {
    int listening = *(int *)given, one = 1;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK + HEAD);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    for (int sock; (sock = accept(listening, NULL, NULL)) >= 0;) {
        pthread_t thread;
        Conn *c = calloc(1, sizeof *c);
        c->sock = sock;
        setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (tls) {
            c->ssl = SSL_new(tls);
            SSL_set_fd(c->ssl, sock);
        }
        pthread_create(&thread, &small, serve, c);
    }
    return NULL;
}

int main(int count, char **words) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof place;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    pthread_t thread;
    char rest[64];
    signal(SIGPIPE, SIG_IGN);
    round_trip_us = count > 1 ? (long)(atof(words[1]) * 1000) : 0;
    if (count > 3) {
        tls = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(tls, words[2]) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, words[3], SSL_FILETYPE_PEM) != 1)
            return 1;
    }
    if (bind(listening, (struct sockaddr *)&place, sizeof place) || listen(listening, 1024))
        return 1;
    getsockname(listening, (struct sockaddr *)&place, &length);
    pthread_create(&thread, NULL, accept_all, &listening);
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    while (read(0, rest, sizeof rest) > 0)
        ;
    return 0;
}
