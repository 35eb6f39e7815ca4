/* Stands before libnl in keepalived's checker: every IPVS request is granted and none is made. What remains is checks.
   Each request adds a byte to the file that NO_IPVS_REQUESTS names. */

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct nl_sock;
struct nl_msg;
typedef int (*callback)(struct nl_msg *, void *);
enum { FINISH = 1, ACK = 4, TYPES = 16 };
static callback called[TYPES];
static void *given[TYPES];

int genl_connect(struct nl_sock *sock) { return 0; }

int genl_ctrl_resolve(struct nl_sock *sock, const char *name) { return 31; }

int nl_send_auto(struct nl_sock *sock, struct nl_msg *message)
{
	static int requests = -2;
	if (requests == -2) {
		const char *path = getenv("NO_IPVS_REQUESTS");
		requests = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
	}
	if (requests >= 0 && write(requests, ".", 1) < 0)
		requests = -1;
	return 1;
}

int nl_socket_modify_cb(struct nl_sock *sock, int type, int kind, callback function, void *argument)
{
	if (type >= 0 && type < TYPES) {
		called[type] = function;
		given[type] = argument;
	}
	return 0;
}

int nl_recvmsgs_default(struct nl_sock *sock)
{
	if (called[ACK])
		called[ACK](0, given[ACK]);
	if (called[FINISH])
		called[FINISH](0, given[FINISH]);
	return 0;
}
