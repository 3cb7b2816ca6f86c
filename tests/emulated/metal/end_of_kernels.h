// Takes the words of Metal's language back.
#undef kernel
#undef thread
#undef device
#undef constant
#undef threadgroup
