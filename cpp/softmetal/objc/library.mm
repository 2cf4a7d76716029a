// Libraries, functions, their constants, and pipelines.
#import "objc/objects.h"

using softmetal::Kind;
using softmetal::refuse;
using softmetal::text;

@implementation MTLCompileOptions
@synthesize preprocessorMacros = _preprocessorMacros;
@synthesize fastMathEnabled = _fastMathEnabled;
@synthesize mathMode = _mathMode;
@synthesize languageVersion = _languageVersion;

- (id)init {
  if ((self = [super init])) {
    _fastMathEnabled = YES;
    _mathMode = MTLMathModeFast;
    _languageVersion = MTLLanguageVersion3_1;
  }
  return self;
}

- (void)dealloc {
  [_preprocessorMacros release];
  [super dealloc];
}

- (id)copyWithZone:(NSZone*)zone {
  MTLCompileOptions* copy = [[MTLCompileOptions allocWithZone:zone] init];
  [copy setPreprocessorMacros:_preprocessorMacros];
  [copy setFastMathEnabled:_fastMathEnabled];
  [copy setMathMode:_mathMode];
  [copy setLanguageVersion:_languageVersion];
  return copy;
}
@end

namespace {

struct ConstantType {
  char kind;
  std::size_t bytes;
};

// The kind of one element and its size; MTLDataType counts up to vectors of four.
ConstantType type_of(MTLDataType type, unsigned& lanes) {
  static constexpr struct {
    MTLDataType first;
    ConstantType type;
  } kTypes[] = {{MTLDataTypeFloat, {'f', 4}}, {MTLDataTypeHalf, {'h', 2}},  {MTLDataTypeInt, {'i', 4}},
                {MTLDataTypeUInt, {'u', 4}},  {MTLDataTypeShort, {'i', 2}}, {MTLDataTypeUShort, {'u', 2}},
                {MTLDataTypeChar, {'i', 1}},  {MTLDataTypeUChar, {'u', 1}}, {MTLDataTypeBool, {'b', 1}},
                {MTLDataTypeLong, {'i', 8}},  {MTLDataTypeULong, {'u', 8}}};
  for (const auto& each : kTypes)
    if (type >= each.first && type < each.first + 4) {
      lanes = static_cast<unsigned>(type - each.first) + 1;
      return each.type;
    }
  refuse("setConstantValue", "type " + std::to_string(type) + " is no scalar or vector");
}

}  // namespace

@implementation MTLFunctionConstantValues

- (id)init {
  if ((self = [super init])) _values = new std::vector<softmetal::ConstantValue>;
  return self;
}

- (void)dealloc {
  delete &[self values];
  [super dealloc];
}

- (id)copyWithZone:(NSZone*)zone {
  MTLFunctionConstantValues* copy = [[MTLFunctionConstantValues allocWithZone:zone] init];
  [copy values] = [self values];
  return copy;
}

- (std::size_t)set:(const void*)value type:(MTLDataType)type index:(NSUInteger)index name:(NSString*)name {
  if (!value) refuse("setConstantValue", "there is no value");
  softmetal::ConstantValue constant;
  ConstantType element = type_of(type, constant.lanes);
  std::size_t bytes = element.bytes * (constant.lanes == 3 ? 4 : constant.lanes);
  constant.index = static_cast<unsigned>(index);
  constant.name = text(name);
  constant.kind = element.kind;
  constant.bytes.assign(static_cast<const char*>(value), bytes);
  std::erase_if([self values],
                [&](const auto& old) { return old.index == constant.index && old.name == constant.name; });
  [self values].push_back(constant);
  return bytes;
}

- (void)setConstantValue:(const void*)value type:(MTLDataType)type atIndex:(NSUInteger)index {
  [self set:value type:type index:index name:nil];
}

- (void)setConstantValues:(const void*)values type:(MTLDataType)type withRange:(NSRange)range {
  const char* at = static_cast<const char*>(values);
  for (NSUInteger i = 0; i < range.length; ++i)
    at += [self set:at type:type index:range.location + i name:nil];
}

- (void)setConstantValue:(const void*)value type:(MTLDataType)type withName:(NSString*)name {
  [self set:value type:type index:0 name:name];
}

- (void)reset {
  [self values].clear();
}

- (std::vector<softmetal::ConstantValue>&)values {
  return *static_cast<std::vector<softmetal::ConstantValue>*>(_values);
}
@end

@implementation SMLibrary

- (id)initWithDevice:(SMDevice*)device library:(std::shared_ptr<softmetal::Library>)library {
  if ((self = [super initWithDevice:device kind:Kind::library]))
    _library = new std::shared_ptr<softmetal::Library>(std::move(library));
  return self;
}

- (void)dealloc {
  delete _library;
  [super dealloc];
}

- (NSArray*)functionNames {
  NSMutableArray* names = [NSMutableArray array];
  for (const std::string& name : (*_library)->function_names(softmetal::mode())) [names addObject:text(name)];
  return names;
}

- (id<MTLFunction>)newFunctionWithName:(NSString*)name {
  return [self newFunctionWithName:name constantValues:nil error:nullptr];
}

- (id<MTLFunction>)newFunctionWithName:(NSString*)name
                        constantValues:(MTLFunctionConstantValues*)constants
                                 error:(NSError**)error {
  try {
    std::vector<softmetal::ConstantValue> values;
    if (constants) values = [constants values];
    softmetal::Function function(*_library, text(name), values, softmetal::mode());
    return [[SMFunction alloc] initWithDevice:_device function:function];
  } catch (const softmetal::MachineError& failure) {
    softmetal::set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorFunctionNotFound, failure.what());
    return nil;
  }
}
@end

@implementation SMFunction

- (id)initWithDevice:(SMDevice*)device function:(softmetal::Function)function {
  if ((self = [super initWithDevice:device kind:Kind::function]))
    _function = new softmetal::Function(function);
  return self;
}

- (void)dealloc {
  delete _function;
  [super dealloc];
}

- (NSString*)name {
  return text(_function->name());
}
@end

@implementation MTLComputePipelineDescriptor
@synthesize label = _label;
@synthesize computeFunction = _computeFunction;
@synthesize threadGroupSizeIsMultipleOfThreadExecutionWidth = _multiple;
@synthesize maxTotalThreadsPerThreadgroup = _threads;

- (void)dealloc {
  [self reset];
  [super dealloc];
}

- (void)reset {
  [self setLabel:nil];
  [self setComputeFunction:nil];
  _multiple = NO;
  _threads = 0;
}

- (id)copyWithZone:(NSZone*)zone {
  MTLComputePipelineDescriptor* copy = [[MTLComputePipelineDescriptor allocWithZone:zone] init];
  [copy setLabel:_label];
  [copy setComputeFunction:_computeFunction];
  [copy setThreadGroupSizeIsMultipleOfThreadExecutionWidth:_multiple];
  [copy setMaxTotalThreadsPerThreadgroup:_threads];
  return copy;
}
@end

@implementation SMPipelineState

- (id)initWithDevice:(SMDevice*)device pipeline:(std::shared_ptr<const softmetal::Pipeline>)pipeline {
  if ((self = [super initWithDevice:device kind:Kind::pipeline]))
    _pipeline = new std::shared_ptr<const softmetal::Pipeline>(std::move(pipeline));
  return self;
}

- (void)dealloc {
  delete _pipeline;
  [super dealloc];
}

- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return (*_pipeline)->max_threads;
}
- (NSUInteger)threadExecutionWidth {
  return softmetal::kSimdWidth;
}
- (NSUInteger)staticThreadgroupMemoryLength {
  return (*_pipeline)->function.layout().bytes;
}
@end
