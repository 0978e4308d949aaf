// The first import of the program: pg looks at this variable when it is loaded, and without the
// package pg-native it would end the process.
delete process.env.NODE_PG_FORCE_NATIVE
